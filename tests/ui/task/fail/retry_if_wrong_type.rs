#[derive(Debug)]
struct MailError;

impl std::fmt::Display for MailError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mail")
    }
}

impl MailError {
    fn is_transient(self) -> bool {
        true
    }
}

fn judges_text(error: &String) -> bool {
    error.is_empty()
}

fn judges_nothing(_: &MailError) {}

#[taskflow::task(retries = 3, retry_if = judges_text)]
async fn wrong_error() -> Result<(), MailError> {
    Err(MailError)
}

#[taskflow::task(retries = 3, retry_if = judges_nothing)]
async fn wrong_answer() -> Result<(), MailError> {
    Err(MailError)
}

#[taskflow::task(retries = 3, retry_if = MailError::is_transient)]
async fn by_value() -> Result<(), MailError> {
    Err(MailError)
}

#[taskflow::task(retries = 3, retry_if = no_such_function)]
async fn missing() -> Result<(), MailError> {
    Err(MailError)
}

fn main() {
    let _ = (wrong_error, wrong_answer, by_value, missing);
}
