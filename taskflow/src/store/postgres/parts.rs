//! Splits adds into parts that one statement each can take.

use super::columns::args;
use crate::model::NewTask;

/// The maximum number of rows of one statement, and of bytes of arguments. Such a statement takes a few hundred
/// milliseconds, so that a silent server can be distinguished from a busy one; and it stays far below the gigabyte
/// that one message may have.
const ROWS: usize = 20_000;
const BYTES: usize = 16 << 20;

/// Splits a list into parts that each fit into one statement.
pub(super) fn parts<T>(all: &[T], task: impl Fn(&T) -> &NewTask) -> Vec<&[T]> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (n, one) in all.iter().enumerate() {
        let more = args(task(one)).len();
        if n > begin && (n - begin >= ROWS || bytes + more > BYTES) {
            parts.push(&all[begin..n]);
            (begin, bytes) = (n, 0);
        }
        bytes += more;
    }
    if begin < all.len() {
        parts.push(&all[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_has_more_rows_or_bytes_than_one_statement_may_and_none_is_left_out() {
        let task = |bytes: usize| NewTask::new("t", Ok("x".repeat(bytes).into()));
        let lengths =
            |all: &[NewTask]| parts(all, |task| task).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![task(1); ROWS * 2 + 1]), [ROWS, ROWS, 1]);
        assert_eq!(lengths(&vec![task(1 << 20); 40]), [16, 16, 8]);
        assert_eq!(lengths(&[task(BYTES + 1), task(1)]), [1, 1]);
    }
}
