-- Each definition of a function (LATEST, each published version) has a queue of its own. The column names it only where it is
-- not LATEST's, so that rows of earlier programs are in the right queue as they are.
alter table grain_state add column line text collate "C";
drop index task_waiting;
create index task_waiting on grain_state (account, coalesce(line, function), (-priority), enqueued_at, task_id) where kind = 'task' and status = 'Enqueued';

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
-- PostgreSQL refuses to read JSON with NUL in it, which a function's error message may well hold; the index never does.
with i as (select replace(convert_from(@PayloadBinary, 'UTF8'), '\u0000', '\u0001')::json -> 'Index' as x),
updated as (
    update grain_state set payload = @PayloadBinary, version = version + 1, modified = now(),
        account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier', line = x ->> 'Line',
        status = x ->> 'Status', listed = (x ->> 'Listed')::boolean::int, priority = (x ->> 'Priority')::int,
        enqueued_at = (x ->> 'EnqueuedAt')::bigint, started_at = (x ->> 'StartedAt')::bigint,
        ended_at = (x ->> 'EndedAt')::bigint, wake_at = (x ->> 'WakeAt')::bigint
    from i
    where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
        and service = @ServiceId and version = @GrainStateVersion::int
    returning version),
inserted as (
    insert into grain_state (key, kind, n0, n1, service, version, payload,
        account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at)
    select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + ((extract(epoch from clock_timestamp()) * 1000)::bigint % 2000000000)::int,
        @PayloadBinary,
        x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Line', x ->> 'Status',
        (x ->> 'Listed')::boolean::int, (x ->> 'Priority')::int, (x ->> 'EnqueuedAt')::bigint,
        (x ->> 'StartedAt')::bigint, (x ->> 'EndedAt')::bigint, (x ->> 'WakeAt')::bigint
    from i where @GrainStateVersion::int is null
    on conflict do nothing
    returning version)
select version as "NewGrainStateVersion" from updated union all select version from inserted

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = now(),
    account = null, function = null, task_id = null, qualifier = null, line = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion::int
returning version as "NewGrainStateVersion"
