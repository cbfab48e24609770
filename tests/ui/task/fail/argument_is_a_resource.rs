use std::net::TcpListener;

#[taskflow::task]
async fn serve(listener: TcpListener) {
    let _ = listener;
}

fn main() {
    let _ = serve;
}
