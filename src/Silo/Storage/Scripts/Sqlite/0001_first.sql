-- State of every grain, in the layout that the texts below read and write. The columns after modified are the row's
-- index: they are taken from the state in the statement that writes it, so the two always agree. The payload is last,
-- since a row is read from its beginning up to the last column that is asked for.
create table grain_state (
    key text not null,
    kind text not null,
    n0 integer not null,
    n1 integer not null,
    service text not null,
    version integer not null,
    modified integer not null default (unixepoch()),
    account text,
    function text,
    task_id text,
    qualifier text,
    status text,
    listed integer,
    priority integer,
    enqueued_at integer,
    started_at integer,
    ended_at integer,
    wake_at integer,
    payload blob,
    primary key (key, kind, n0, n1, service)
);

-- The qualifier comes last in these two to be filtered by without a look at the row.
create index task_by_time on grain_state (account, function, enqueued_at, task_id, qualifier) where kind = 'task' and listed = 1;
create index task_by_status on grain_state (account, function, status, enqueued_at, task_id, qualifier) where kind = 'task' and listed = 1;
create index task_waiting on grain_state (account, function, (-priority), enqueued_at, task_id) where kind = 'task' and status = 'Enqueued';
create index task_live on grain_state (account, function, task_id)
    where kind = 'task' and status in ('Enqueued', 'Dequeued', 'Running', 'Retrying', 'Stopping');
create index task_due on grain_state (wake_at, key) where kind = 'task' and wake_at is not null;
create index function_by_name on grain_state (account, function) where kind = 'function';

create table reminder (
    service text not null,
    grain text not null,
    name text not null,
    start_at text not null,
    period integer not null,
    grain_hash integer not null,
    version integer not null,
    primary key (service, grain, name)
);
create index reminder_by_hash on reminder (service, grain_hash);

create table silo_version (
    deployment text primary key,
    version integer not null
);
create table silo (
    deployment text not null,
    address text not null,
    port integer not null,
    generation integer not null,
    name text not null,
    host text not null,
    status integer not null,
    proxy_port integer,
    suspects text,
    started_at text not null,
    alive_at text not null,
    primary key (deployment, address, port, generation)
);

-- A change of membership is a member and a new version in one step. Several statements of one text are several
-- transactions here, so the change is inserted into this table and its trigger does the rest within that statement.
create table silo_change (
    deployment text not null,
    address text not null,
    port integer not null,
    generation integer not null,
    name text,
    host text,
    status integer not null,
    proxy_port integer,
    suspects text,
    started_at text,
    alive_at text not null,
    is_new integer not null
);
create trigger silo_changed after insert on silo_change begin
    update silo_version set version = version + 1 where deployment = new.deployment;
    insert into silo (deployment, address, port, generation, name, host, status, proxy_port, started_at, alive_at)
    select new.deployment, new.address, new.port, new.generation, new.name, new.host, new.status, new.proxy_port, new.started_at, new.alive_at
    where new.is_new;
    update silo set status = new.status, suspects = new.suspects, alive_at = new.alive_at
    where not new.is_new and deployment = new.deployment and address = new.address and port = new.port and generation = new.generation;
    delete from silo_change;
end;

create table OrleansQuery (
    QueryKey text primary key,
    QueryText text not null
);

-- @query ReadFromStorageKey
select payload as PayloadBinary, version as Version from grain_state
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1 and service = @ServiceId

-- @query WriteToStorageKey
-- A new row starts at a version taken from the clock, so that an activation which has slept through the row's deletion and
-- a new row of its key cannot take the new row for its own.
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
update grain_state set payload = @PayloadBinary, version = version + 1, modified = unixepoch(),
    account = x ->> 'Account', function = x ->> 'Function', task_id = x ->> 'TaskId', qualifier = x ->> 'Qualifier',
    status = x ->> 'Status', listed = x ->> 'Listed', priority = x ->> 'Priority', enqueued_at = x ->> 'EnqueuedAt',
    started_at = x ->> 'StartedAt', ended_at = x ->> 'EndedAt', wake_at = x ->> 'WakeAt'
from i
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion;
with i as materialized (select cast(@PayloadBinary as text) -> '$.Index' as x)
insert into grain_state (key, kind, n0, n1, service, version, payload,
    account, function, task_id, qualifier, status, listed, priority, enqueued_at, started_at, ended_at, wake_at)
select coalesce(@GrainIdExtensionString, ''), @GrainTypeString, @GrainIdN0, @GrainIdN1, @ServiceId, 1 + cast(unixepoch('subsec') * 1000 as integer) % 2000000000,
    @PayloadBinary,
    x ->> 'Account', x ->> 'Function', x ->> 'TaskId', x ->> 'Qualifier', x ->> 'Status', x ->> 'Listed', x ->> 'Priority',
    x ->> 'EnqueuedAt', x ->> 'StartedAt', x ->> 'EndedAt', x ->> 'WakeAt'
from i where @GrainStateVersion is null
on conflict do nothing
returning version as NewGrainStateVersion;

-- @query ClearStorageKey
update grain_state set payload = null, version = version + 1, modified = unixepoch(),
    account = null, function = null, task_id = null, qualifier = null, status = null, listed = null, priority = null,
    enqueued_at = null, started_at = null, ended_at = null, wake_at = null
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version as NewGrainStateVersion

-- @query DeleteStorageKey
delete from grain_state
where key = coalesce(@GrainIdExtensionString, '') and kind = @GrainTypeString and n0 = @GrainIdN0 and n1 = @GrainIdN1
    and service = @ServiceId and version = @GrainStateVersion
returning version + 1 as NewGrainStateVersion

-- @query ReadReminderRowsKey
select grain as GrainId, name as ReminderName, start_at as StartTime, period as Period, version as Version
from reminder where service = @ServiceId and grain = @GrainId

-- @query ReadReminderRowKey
select grain as GrainId, name as ReminderName, start_at as StartTime, period as Period, version as Version
from reminder where service = @ServiceId and grain = @GrainId and name = @ReminderName

-- @query ReadRangeRows1Key
select grain as GrainId, name as ReminderName, start_at as StartTime, period as Period, version as Version
from reminder where service = @ServiceId and grain_hash > @BeginHash and grain_hash <= @EndHash

-- @query ReadRangeRows2Key
select grain as GrainId, name as ReminderName, start_at as StartTime, period as Period, version as Version
from reminder where service = @ServiceId and (grain_hash > @BeginHash or grain_hash <= @EndHash)

-- @query UpsertReminderRowKey
insert into reminder (service, grain, name, start_at, period, grain_hash, version)
values (@ServiceId, @GrainId, @ReminderName, @StartTime, @Period, @GrainHash, 0)
on conflict (service, grain, name) do update
set start_at = excluded.start_at, period = excluded.period, grain_hash = excluded.grain_hash, version = reminder.version + 1
returning version as Version

-- @query DeleteReminderRowKey
delete from reminder where service = @ServiceId and grain = @GrainId and name = @ReminderName and version = @Version;
select changes()

-- @query DeleteReminderRowsKey
delete from reminder where service = @ServiceId

-- @query GatewaysQueryKey
select address as Address, proxy_port as ProxyPort, generation as Generation
from silo where deployment = @DeploymentId and status = @Status and proxy_port > 0

-- @query MembershipReadRowKey
select s.address as Address, s.port as Port, s.generation as Generation, s.name as SiloName, s.host as HostName,
    s.status as Status, s.proxy_port as ProxyPort, s.suspects as SuspectTimes, s.started_at as StartTime,
    s.alive_at as IAmAliveTime, v.version as Version
from silo_version v
left join silo s on s.deployment = v.deployment and s.address = @Address and s.port = @Port and s.generation = @Generation
where v.deployment = @DeploymentId

-- @query MembershipReadAllKey
select s.address as Address, s.port as Port, s.generation as Generation, s.name as SiloName, s.host as HostName,
    s.status as Status, s.proxy_port as ProxyPort, s.suspects as SuspectTimes, s.started_at as StartTime,
    s.alive_at as IAmAliveTime, v.version as Version
from silo_version v
left join silo s on s.deployment = v.deployment
where v.deployment = @DeploymentId

-- @query InsertMembershipVersionKey
insert into silo_version (deployment, version) values (@DeploymentId, 0) on conflict do nothing;
select changes()

-- @query InsertMembershipKey
insert into silo_change (deployment, address, port, generation, name, host, status, proxy_port, started_at, alive_at, is_new)
select @DeploymentId, @Address, @Port, @Generation, @SiloName, @HostName, @Status, @ProxyPort, @StartTime, @IAmAliveTime, 1
where exists (select 1 from silo_version where deployment = @DeploymentId and version = @Version)
    and not exists (select 1 from silo where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation);
select changes()

-- @query UpdateMembershipKey
insert into silo_change (deployment, address, port, generation, status, suspects, alive_at, is_new)
select @DeploymentId, @Address, @Port, @Generation, @Status, @SuspectTimes, @IAmAliveTime, 0
where exists (select 1 from silo_version where deployment = @DeploymentId and version = @Version)
    and exists (select 1 from silo where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation);
select changes()

-- @query UpdateIAmAlivetimeKey
update silo set alive_at = @IAmAliveTime
where deployment = @DeploymentId and address = @Address and port = @Port and generation = @Generation

-- @query DeleteMembershipTableEntriesKey
delete from silo where deployment = @DeploymentId;
delete from silo_version where deployment = @DeploymentId

-- @query CleanupDefunctSiloEntriesKey
delete from silo where deployment = @DeploymentId and alive_at < @IAmAliveTime and status <> 3
