-- Each definition of a function (LATEST, each published version) has a queue of its own. The column names it only where it is
-- not LATEST's, so that rows of earlier programs are in the right queue as they are.
alter table grain_state add column line text;
drop index task_waiting;
create index task_waiting on grain_state (account, coalesce(line, function), (-priority), enqueued_at, task_id) where kind = 'task' and status = 'Enqueued';

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
update grain_state set payload = @PayloadBinary, version = version + 1, modified = unixepoch(),
    account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier', line = x ->> 'Line',
    status = x ->> 'Status', listed = x ->> 'Listed', priority = x ->> 'Priority', enqueued_at = x ->> 'EnqueuedAt',
    started_at = x ->> 'StartedAt', ended_at = x ->> 'EndedAt', wake_at = x ->> 'WakeAt'
from i
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion;
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
insert into grain_state (key, kind, n0, n1, service, version, payload,
    account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at)
select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + cast(unixepoch('subsec') * 1000 as integer) % 2000000000,
    @PayloadBinary,
    x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Line', x ->> 'Status', x ->> 'Listed', x ->> 'Priority',
    x ->> 'EnqueuedAt', x ->> 'StartedAt', x ->> 'EndedAt', x ->> 'WakeAt'
from i where @GrainStateVersion is null
on conflict do nothing
returning version as NewGrainStateVersion;

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = unixepoch(),
    account = null, function = null, task_id = null, qualifier = null, line = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion
