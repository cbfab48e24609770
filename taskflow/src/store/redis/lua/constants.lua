-- Words for numbers and formats. Each is put in where it is named before a script is loaded, so that they cost nothing
-- while it runs: a line is "local NAME = literal", and a NAME is in capitals.

-- Stages. Those up to HELD are pending, those after RUNNING have ended. ASIDE is due and waits for others of its concurrency group;
-- LAPSED has met a claim after the instant until which it could be started, and waits for its cancellation.
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
-- What an answer says of a task that ended well: see `digit`.
local ENDED_WELL = '6'
-- And of one whose success was written before: see `repeated`.
local ENDED_WELL_BEFORE = 'g'

-- Their letters in `counts`, from DUE on: see `letter`.
local LETTERS = 'DLAXHRSFICJ'

-- Flags: what is kept beside a state.
local HAS_KEY = 1
local HAS_RUN_KEY = 2
local HAS_ERROR = 4
local HAS_PROGRESS = 8
local HAS_PAST = 16
local HAS_LOG = 32
local HAS_SCHEDULED = 64
local HAS_RESULT = 128
-- A run key or progress: a claim has more to do than to begin the run.
local NOT_SIMPLE = 10

-- The fields of a task: first those that every run changes. They are kept apart, in `state`, so that a run neither reads
-- nor writes the others, which are in `task`.
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

-- How they are packed, and where (the first byte is 1), when a task is put together from `state` up to REST_AT and `task`.
-- Behind them stand the ready list and the concurrency group (empty: none), each with its length before it, and the body if that is short; else
-- it has a place of its own, so that not every move of the task moves it. In `state` ready list and concurrency group stand from REST_AT on.
local HEAD = '<BBBBI4i8I8I4c16i8'
local FORMAT = '<BBBBI4i8I8I4c16i8>I8<i8i8I4I4i8I4I4i2BI4Bi8'
-- Of these, what a claim looks at: flags, lost runs, fence, attempt; in `state`.
local CLAIM_READS = '<xxxBI4xxxxxxxxI8I4'
-- And in `task` from PREFETCH_IN on: that, when it expires, ready list and concurrency group.
local CLAIM_WORDS = '<Bi8I2c0I2c0'
-- From LANE_AT on: ready list and concurrency group.
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
local LANE_AT = 117
-- Where the same is in `task`.
local RUN_AT_IN = 9
local CREATED_IN = 17
local MAX_IN = 25
local PRIORITY_IN = 49
local PREFETCH_IN = 56
local READY_LIST_IN = 65
-- Where ready list and concurrency group are in the end of states that an add gives, which begins with the greatest number of attempts.
local END_WORDS = 41
-- Values of PREFETCH: which attempts may be prefetched, if the last run was not lost. ONLY_ATTEMPT and BEFORE_LAST are all but
-- the last, where the policy gives one attempt and where it gives more: so tasks that have made none and are alike in it are
-- alike in whether they may be prefetched.
local ONLY_ATTEMPT = 1
local ALL_ATTEMPTS = 2
local BEFORE_LAST = 3
local LONG_BODY = 512

-- What the ids of an entry of `ids` have in common at their begin, and what is behind every entry that begins with that.
local SHARED = 6
local BEHIND = '\255\255\255\255\255\255\255\255\255\255\255'

local NEVER_STARTED = '\0\0\0\0\0\0\0\0'
local NOBODY = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- Every task begins with this fence, and a claim's is greater: a run or hold under it began with the insert.
local FIRST_FENCE = 1
-- A fence that grows beyond is not exact: only other hands write such.
local LAST_FENCE = 9007199253740991
-- What a task without a `state` has up to REST_AT: it is due, has made no attempt and has nothing kept beside it.
local NEW = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- How runs end, where a script says so itself.
local SUCCEEDED = 1
local WAS_LOST = 6
local SNOOZED = 9

-- A claim passes over about so many tasks that it may not start: the next one goes on.
local PASSED_OVER = 1000
-- As often may a claim of several ready lists begin a round anew, since a task that it passed over made room for an earlier one.
local CUTS = 16
-- A claim makes so many due again since a limit has changed: fewer, so that claims that disagree about it get on all the same.
local RELEASED = 500

-- What a change sets: see apply_main.lua.
local SETS_UNCOUNTED = 1
local SETS_FENCE = 2
local SETS_LOST = 4
local SETS_SNOOZES = 8
local SETS_MAX = 16
local SETS_RUN_AT = 32
local SETS_EXPIRES = 64
local SETS_REOPENED = 128

-- What a task to insert says of itself, beside its flags.
local IN_CROWD = 1
local RECORD_REJECTED = 2
-- No instant is greater: every number up to here is exact.
local FOR_EVER = 9007199254740991
-- What can be started at any time expires then.
local NEVER = 9007199254740991

-- What a claim says that meets a task where it does not belong: the repair sees to it.
local NOT_DUE = 'a task that is not due there is in a ready_list'
local NOT_WAITING = 'a task has a run key that does not wait for its first attempt'

-- In microseconds: no lease is longer, and what a repair gives a run whose lease is gone.
local LONGEST_LEASE = 31536000000000
local FOUND_LEASE = 10000000
-- In seconds: how long the arguments of a large insert wait for the last of them.
local STAGE_KEPT = 120
local NOT_A_STAGE = 'a task has a state that is none'
-- A repair counts no more tasks in one go: a second or so.
local COUNTED_AT_ONCE = 50000
