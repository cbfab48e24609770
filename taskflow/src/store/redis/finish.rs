//! Packs the ends and the reports of runs, and reads the answers.

use super::packed_row::{exact, length, outcome_number, stage_of, status_of};
use super::script::{AT_ONCE, Call};
use crate::model::{AttemptOutcome, LogLevel, LogLine, Progress, time};
use crate::store::{Finish, FinishKind, Finished, Report};

pub(super) fn pack(call: &mut Call, finishes: &[Finish]) {
    call.list(finishes.iter().map(|finish| finish.run.id.as_bytes()));
    for finish in finishes {
        let fence = finish.run.fence.to_le_bytes();
        let (kind, stage, outcome, delay, text) = match &finish.kind {
            FinishKind::Success { result } if finish.progress.is_none() && finish.lines.is_empty() => {
                call.arg(&fence[..]).arg(&**result);
                continue;
            }
            FinishKind::Success { result } => (0, 0, outcome_number(AttemptOutcome::Success), 0, &**result),
            FinishKind::Retry { delay, outcome, error } => {
                (1, 0, outcome_number(*outcome), time::micros(*delay), error.as_str())
            }
            FinishKind::GiveBack { delay, outcome } => {
                (2, 0, outcome.map_or(0, outcome_number), time::micros(*delay), "")
            }
            FinishKind::End { status, outcome, error } => {
                (3, stage_of(*status), outcome_number(*outcome), 0, error.as_str())
            }
        };
        // `finish.lua` unpacks this as `<I8BBBi8BI4I4I4`.
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(fence);
        bytes.extend([kind, stage, outcome]);
        bytes.extend(exact(delay).to_le_bytes());
        bytes.extend(report_head(finish.progress.as_ref(), &finish.lines, finish.lines_before));
        call.arg(&bytes[..]).arg(text);
        push_report(call, finish.progress.as_ref(), &finish.lines);
    }
}

/// Adds the arguments of finishes for which [`are_all_successes`] holds.
pub(super) fn pack_successes(call: &mut Call, finishes: &[Finish]) {
    let (mut ids, mut fences) =
        (Vec::with_capacity(16 * finishes.len()), Vec::with_capacity(8 * finishes.len()));
    for Finish { run, .. } in finishes {
        ids.extend_from_slice(run.id.as_bytes());
        fences.extend(run.fence.to_le_bytes());
    }
    let results = || {
        finishes.iter().map(|finish| match &finish.kind {
            FinishKind::Success { result } => &**result,
            _ => "null",
        })
    };
    let any_result = results().any(|result| result != "null");
    call.arg(finishes.len()).arg(ids).arg(fences).arg(u8::from(any_result));
    if any_result {
        for result in results() {
            call.arg(result);
        }
    }
}

/// Whether all of them are successes without progress and log lines, and no more than one script can end.
pub(super) fn are_all_successes(finishes: &[Finish]) -> bool {
    (1..=AT_ONCE).contains(&finishes.len())
        && finishes.iter().all(|finish| {
            matches!(finish.kind, FinishKind::Success { .. })
                && finish.progress.is_none()
                && finish.lines.is_empty()
        })
}

/// Reads the answer; `None` if it has another form.
pub(super) fn unpack(answer: &[u8], expected: usize) -> Option<Vec<Finished>> {
    let finished = answer.iter().map(|stage| match stage {
        b'x' => Finished::Stale,
        b'a'.. => Finished::Repeated(status_of(stage - b'a')),
        stage => Finished::Applied(status_of(stage - b'0')),
    });
    Some(finished.collect()).filter(|finished: &Vec<_>| finished.len() == expected)
}

pub(super) fn pack_report(call: &mut Call, report: &Report) {
    let mut bytes = Vec::with_capacity(21);
    bytes.extend(report.run.fence.to_le_bytes());
    bytes.extend(report_head(report.progress.as_ref(), &report.lines, report.lines_before));
    call.arg(report.run.id.as_bytes()).arg(&bytes[..]);
    push_report(call, report.progress.as_ref(), &report.lines);
}

/// Packs whether there is progress, the number of lines, their length together, and how many lines the task had before:
/// `u32::MAX`, more than any task has, if that is not known.
fn report_head(
    progress: Option<&Progress>,
    lines: &[LogLine],
    before: Option<u32>,
) -> impl Iterator<Item = u8> + use<> {
    let bytes = lines.iter().map(|line| line.message.len()).sum();
    std::iter::once(u8::from(progress.is_some()))
        .chain(length(lines.len()))
        .chain(length(bytes))
        .chain(before.unwrap_or(u32::MAX).to_le_bytes())
}

fn push_report(call: &mut Call, progress: Option<&Progress>, lines: &[LogLine]) {
    if let Some(progress) = progress {
        call.arg(serde_json::to_vec(progress).expect("a number and a string can be written as JSON"));
    }
    for line in lines {
        let mut bytes = Vec::with_capacity(13 + line.message.len());
        bytes.extend(time::to_micros(line.at).to_le_bytes());
        bytes.push(LEVELS.iter().position(|level| *level == line.level).unwrap_or(0) as u8);
        bytes.extend(line.attempt.to_le_bytes());
        bytes.extend_from_slice(line.message.as_bytes());
        call.arg(bytes);
    }
}

const LEVELS: [LogLevel; 4] = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

/// A line as `pack_report` packed it.
pub(super) fn line(bytes: &[u8]) -> Option<LogLine> {
    let mut at = super::packed_row::Unpack(bytes);
    let (micros, level, attempt) = (at.i64()?, at.u8()?, at.u32()?);
    let level = LEVELS.get(usize::from(level)).copied().unwrap_or(LogLevel::Info);
    let message = String::from_utf8_lossy(at.0).into_owned();
    Some(LogLine::new(time::from_micros(micros), level, message, attempt))
}
