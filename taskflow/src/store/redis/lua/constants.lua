-- Names for numbers and formats. Each is replaced by its value before a script is loaded, so that it costs nothing
-- while the script runs. A line is "local NAME = literal", and a NAME is in capitals.

-- Stages. Those up to HELD are pending, those after RUNNING are final. BLOCKED is due and waits for others of its
-- concurrency group; LAPSED was found by a claim after it had expired, and waits for its cancellation.
local DUE = 0
local LATER = 1
local BLOCKED = 2
local LAPSED = 3
local HELD = 4
local RUNNING = 5
local SUCCESS = 6
local FAILED = 7
local CANCELLED = 9
local REJECTED = 10
-- The byte in an answer for a task that has succeeded: see `digit`.
local ENDED_AS_SUCCESS = '6'
-- The byte for a task whose success was written before: see `repeated`.
local ENDED_WELL_BEFORE = 'g'

-- Their letters in `counts`, from DUE on: see `letter`.
local LETTERS = 'DLAXHRSFICJ'

-- Flags: what is stored beside a state.
local HAS_KEY = 1
local HAS_RUN_KEY = 2
local HAS_ERROR = 4
local HAS_PROGRESS = 8
local HAS_PAST = 16
local HAS_LOG = 32
local HAS_SCHEDULED = 64
local HAS_RESULT = 128
-- A run key or progress: a claim then does more than begin the run.
local NOT_SIMPLE = 10

-- The fields of a task. The first ones, which every run changes, are stored apart in `state`, so that a run neither
-- reads nor writes the others, which are in `task`.
local STAGE = 1
local STOP = 2
local OUTCOME = 3
local FLAGS = 4
local LOST = 5
local FINISHED = 6
local FENCE = 7
local ATTEMPT = 8
local HOLDER = 9
local STARTED = 10
local SEQ = 11
local RUN_AT = 12
local CREATED = 13
local MAX = 14
local TRIES = 15
local SCHEDULED = 16
local LOG_LINES = 17
local LOG_BYTES = 18
local PRIORITY = 19
local SOURCE = 20
local SNOOZES = 21
local PREFETCH = 22
local EXPIRES = 23
local READY_LIST = 24
local GROUP_KEY = 25

-- The bytes of a log line before its message.
local LINE_HEAD = 13

-- The format and positions (the first byte is 1) of a task that is joined from `state` up to REST_AT and `task`. The
-- ready list and the concurrency group (empty: none) follow, each with its length before it. A short body follows
-- them; a long one has its own key, so that it is not moved with every change of the task. In `state`, ready list and
-- concurrency group begin at REST_AT.
local HEAD = '<BBBBI4i8I8I4c16i8'
local FORMAT = '<BBBBI4i8I8I4c16i8>I8<i8i8I4I4i8I4I4i2BI4Bi8'
-- The fields that a claim reads from `state`: flags, lost runs, fence, attempt.
local CLAIM_READS = '<xxxBI4xxxxxxxxI8I4'
-- The fields from PREFETCH_IN on in `task`: prefetch, expiry, ready list and concurrency group.
local CLAIM_WORDS = '<Bi8I2c0I2c0'
-- From READY_LIST_AT on: ready list and concurrency group.
local WORDS = '<I2c0I2c0'
local FIELDS = 23
local FINISHED_AT = 9
local FENCE_AT = 17
local FENCE_END = 24
local HOLDER_AT = 29
local HOLDER_END = 44
local STARTED_AT = 45
local STARTED_END = 52
local REST_AT = 53
local SEQ_END = 60
local RUN_AT_AT = 61
local PRIORITY_AT = 101
local EXPIRES_AT = 109
local READY_LIST_AT = 117
-- Positions of the same fields in `task`.
local RUN_AT_IN = 9
local CREATED_IN = 17
local MAX_IN = 25
local PRIORITY_IN = 49
local PREFETCH_IN = 56
local READY_LIST_IN = 65
-- Where ready list and concurrency group begin in the end of a state as an add sends it, which starts with the
-- maximum number of attempts.
local END_WORDS = 41
-- Values of PREFETCH: which attempts may be prefetched, if the last run was not lost. ONLY_ATTEMPT and BEFORE_LAST
-- both allow all but the last attempt; the first is for policies with one attempt, the second for those with more. So
-- the value alone decides whether a task without attempts may be prefetched.
local ONLY_ATTEMPT = 1
local ALL_ATTEMPTS = 2
local BEFORE_LAST = 3
local LONG_BODY = 512

-- The length of the common prefix of all ids in an entry of `ids`, and a text greater than every entry with that
-- prefix.
local SHARED = 6
local BEHIND = '\255\255\255\255\255\255\255\255\255\255\255'

local NEVER_STARTED = '\0\0\0\0\0\0\0\0'
local NOBODY = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- Every task begins with this fence, and a claim's fence is greater: a run or hold with it began with the insert.
local FIRST_FENCE = 1
-- A greater fence is not exact: only other programs write one.
local LAST_FENCE = 9007199253740991
-- The part up to REST_AT of a task without a `state`: due, no attempt made, nothing stored beside it.
local NEW = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- How runs end, in the cases that a script decides.
local SUCCEEDED = 1
local WAS_LOST = 6
local SNOOZED = 9

-- A claim passes over about this many tasks that it may not start; then the next claim goes on.
local PASSED_OVER = 1000
-- How often a claim of several ready lists may begin a round anew, because a task that it passed over made room for
-- an earlier one.
local CUTS = 16
-- How many tasks a claim unblocks because a limit has changed: fewer than PASSED_OVER, so that claims that disagree
-- about the limit still make progress.
local RELEASED = 500

-- The fields that a change sets: see apply_main.lua.
local SETS_UNCOUNTED = 1
local SETS_FENCE = 2
local SETS_LOST = 4
local SETS_SNOOZES = 8
local SETS_MAX = 16
local SETS_RUN_AT = 32
local SETS_EXPIRES = 64
local SETS_REOPENED = 128

-- Flags of a task to insert, in addition to its stored flags.
local IN_GROUP = 1
local RECORD_REJECTED = 2
-- The greatest instant: every number up to here is exact.
local FOR_EVER = 9007199254740991
-- The expiry of a task that can be started at any time.
local NEVER = 9007199254740991

-- The error of a claim that finds a task where it does not belong: the repair fixes it.
local NOT_DUE = 'a task that is not due there is in a ready_list'
local NOT_WAITING = 'a task has a run key that does not wait for its first attempt'

-- In microseconds: the longest lease, and the lease that a repair gives to a run without one.
local LONGEST_LEASE = 31536000000000
local FOUND_LEASE = 10000000
-- In seconds: how long the arguments of a large insert wait for the last of them.
local STAGE_KEPT = 120
local NOT_A_STAGE = 'a task has a state that is none'
-- A repair counts at most this many tasks in one script, which takes about a second.
local COUNTED_AT_ONCE = 50000
-- The beginning of a document: version, when it was written, when it expires (NEVER: it does not). The value follows at
-- DOCUMENT_AT. Versions are smaller than DOCUMENT_VERSIONS.
local DOCUMENT = '<i8i8i8'
local DOCUMENT_AT = 25
local DOCUMENT_VERSIONS = 1000000000000000
-- The most keys that one script looks at to read documents, and after how many bytes it stops.
local DOCUMENTS_LOOKED_AT = 2000
local DOCUMENTS_BYTES = 4194304
