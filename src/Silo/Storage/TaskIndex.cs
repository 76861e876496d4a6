using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Store;
using GpuTasks.Tasks;

namespace GpuTasks.Storage;

/// <summary>
/// Reads task rows by their index columns. The texts repeat the conditions of the partial indexes word for word, since a
/// database uses such an index only where it sees that the query implies them.
/// </summary>
internal sealed class TaskIndex(StoreDatabase database, SystemTextJsonStorageSerializer serializer, BlobParts parts) : ITaskIndex
{
    public async Task<(IReadOnlyList<TaskState> Tasks, string? NextToken)> ListAsync(string account, TaskQuery query, CancellationToken cancellationToken)
    {
        PageToken? after = query.NextToken is { } token ? PageToken.Decode(token, account, query.Function, query.Ascending) : null;
        if (query.Prefix is { } prefix && !KeyRange.IsPossible(prefix))
        {
            return ([], null);
        }

        var isFew = query.Prefix is { Length: > 0 } start && await IsFewAsync(account, query.Function, start, cancellationToken);
        var (text, parameters) = ListText(account, query, after, isFew);
        var rows = await database.QueryAsync(
            text,
            parameters,
            r => (Position: new PageToken(r.GetInt64(1), r.GetString(2)), State: r.GetFieldValue<byte[]>(0)),
            cancellationToken);
        var page = rows.Count > query.Limit ? rows[..query.Limit] : rows;
        var tasks = page.ConvertAll(r => serializer.Deserialize<TaskState>(new BinaryData(r.State)));
        for (var i = 0; query.IncludePayload && i < tasks.Count; i++)
        {
            // A task that is purged meanwhile is listed without them.
            var row = new GrainState<TaskState>(tasks[i]);
            await parts.JoinAsync(tasks[i].Key!.Value.ToString(), row, cancellationToken);
            tasks[i] = row.State!;
        }

        return (tasks, rows.Count > query.Limit ? page[^1].Position.Encode(account, query.Function, query.Ascending) : null);
    }

    public async Task<IReadOnlyDictionary<GpuTaskStatus, long>> CountAsync(string account, string function, CancellationToken cancellationToken)
    {
        var rows = await database.QueryAsync(
            CountText,
            [("account", account), ("function", function)],
            r => (Status: Enum.Parse<GpuTaskStatus>(r.GetString(0)), Count: r.GetInt64(1)),
            cancellationToken);
        return rows.ToDictionary(r => r.Status, r => r.Count);
    }

    public async Task<IReadOnlyList<Ticket>> WaitingAsync(string account, string line, Ticket? after, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("account", account), ("line", line), ("limit", limit)];
        if (after is { } ticket)
        {
            parameters.AddRange([("rank", -ticket.Priority), ("enqueuedAt", ticket.EnqueuedAt.ToUnixTimeMilliseconds()), ("taskId", ticket.TaskId)]);
        }

        return await database.QueryAsync(
            WaitingText(goesOn: after is not null),
            parameters,
            r => new Ticket(r.GetString(0), r.GetInt32(1), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(2))),
            cancellationToken);
    }

    public async Task<long> CountAheadAsync(string account, string line, Ticket ticket, CancellationToken cancellationToken)
    {
        var rows = await database.QueryAsync(
            CountAheadText,
            [("account", account), ("line", line), ("rank", -ticket.Priority), ("enqueuedAt", ticket.EnqueuedAt.ToUnixTimeMilliseconds()), ("taskId", ticket.TaskId)],
            r => r.GetInt64(0),
            cancellationToken);
        return rows[0];
    }

    public async Task<IReadOnlyList<string>> LiveAsync(
        string account, string function, string? version, string? afterTaskId, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("account", account), ("function", function), ("after", afterTaskId ?? ""), ("limit", limit)];
        if (version is not null)
        {
            parameters.Add(("line", DefinitionKey.LineOf(function, version)));
        }

        return await database.QueryAsync(LiveText(ofVersion: version is not null), parameters, r => r.GetString(0), cancellationToken);
    }

    public async Task<IReadOnlyList<DueDelivery>> DueDeliveriesAsync(DateTimeOffset now, DueDelivery? after, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("now", now.ToUnixTimeMilliseconds()), ("limit", limit)];
        if (after is { } last)
        {
            parameters.AddRange([("at", last.WakeAt), ("key", last.Key.ToString())]);
        }

        return await database.QueryAsync(
            DueDeliveriesText(goesOn: after is not null),
            parameters,
            r => new DueDelivery(new TaskKey(r.GetString(0), r.GetString(1), r.GetString(2)), r.GetInt64(3)),
            cancellationToken);
    }

    public async Task<IReadOnlyList<TaskKey>> DueAsync(DateTimeOffset now, int limit, CancellationToken cancellationToken) =>
        await database.QueryAsync(
            DueText,
            [("now", now.ToUnixTimeMilliseconds()), ("limit", limit)],
            r => new TaskKey(r.GetString(0), r.GetString(1), r.GetString(2)),
            cancellationToken);

    public async Task<IReadOnlyList<string>> DefinitionsWaitingAsync(CancellationToken cancellationToken) =>
        await database.QueryAsync(
            database.Provider == StoreProvider.PostgreSql ? DefinitionsWaitingPostgreSql : DefinitionsWaitingSqlite,
            [],
            r => $"{r.GetString(0)}/{r.GetString(1)}",
            cancellationToken);

    internal const string CountText =
        "select status, count(*) from grain_state where kind = 'task' and listed = 1 and account = @account and function = @function group by status";

    internal const string CountAheadText =
        "select count(*) from grain_state "
        + "where kind = 'task' and status = 'Enqueued' and account = @account and coalesce(line, function) = @line "
        + "and (-priority, enqueued_at, task_id) < (@rank, @enqueuedAt, @taskId)";

    internal static string LiveText(bool ofVersion) =>
        "select task_id from grain_state "
        + "where kind = 'task' and status in ('Enqueued', 'Dequeued', 'Running', 'Retrying', 'Stopping') "
        + "and account = @account and function = @function and task_id > @after "
        + (ofVersion ? "and line = @line " : "")
        + "order by task_id limit @limit";

    internal const string DueText =
        "select account, function, task_id from grain_state "
        + "where kind = 'task' and wake_at is not null and ended_at is null and wake_at <= @now order by wake_at, key limit @limit";

    internal static string DueDeliveriesText(bool goesOn) =>
        "select account, function, task_id, wake_at from grain_state "
        + "where kind = 'task' and wake_at is not null and ended_at is not null and wake_at <= @now "
        + (goesOn ? "and (wake_at, key) > (@at, @key) " : "")
        + "order by wake_at, key limit @limit";

    internal const string FewText =
        "select 1 from grain_state where kind = 'task' and key >= @low and key < @high limit @limit";

    // Up to this many ids of one prefix are cheaper to sort than to look for among all others.
    private const int Few = 1000;

    internal static string WaitingText(bool goesOn) =>
        "select task_id, priority, enqueued_at from grain_state "
        + "where kind = 'task' and status = 'Enqueued' and account = @account and coalesce(line, function) = @line "
        + (goesOn ? "and (-priority, enqueued_at, task_id) > (@rank, @enqueuedAt, @taskId) " : "")
        + "order by -priority, enqueued_at, task_id limit @limit";

    /// <param name="account">Owner.</param>
    /// <param name="query">Filters.</param>
    /// <param name="after">Where the last page ended, or null.</param>
    /// <param name="isFew">True if so few ids start with the prefix that they should be found by key and sorted.</param>
    internal static (string Text, List<(string Name, object Value)> Parameters) ListText(string account, TaskQuery query, PageToken? after, bool isFew)
    {
        List<(string, object)> parameters = [("limit", query.Limit + 1)];
        var where = new StringBuilder("where kind = 'task' and listed = 1");
        if (isFew)
        {
            // The row's key starts with account and function.
            var low = new TaskKey(account, query.Function, query.Prefix!).ToString();
            where.Append(" and key >= @low and key < @high");
            parameters.AddRange([("low", low), ("high", KeyRange.End(low)!)]);
        }
        else
        {
            where.Append(" and account = @account and function = @function");
            parameters.AddRange([("account", account), ("function", query.Function)]);
            if (query.Prefix is { Length: > 0 } prefix)
            {
                where.Append(" and task_id >= @low");
                parameters.Add(("low", prefix));
                if (KeyRange.End(prefix) is { } end)
                {
                    where.Append(" and task_id < @high");
                    parameters.Add(("high", end));
                }
            }
        }

        if (query.Status is { } status)
        {
            where.Append(" and status = @status");
            parameters.Add(("status", status.ToString()));
        }

        if (query.Qualifier is { } qualifier)
        {
            where.Append(" and qualifier = @qualifier");
            parameters.Add(("qualifier", qualifier));
        }

        if (query.StartedFromMs is { } from)
        {
            where.Append(" and enqueued_at >= @from");
            parameters.Add(("from", from));
        }

        if (query.StartedToMs is { } to)
        {
            where.Append(" and enqueued_at <= @to");
            parameters.Add(("to", to));
        }

        if (after is { } position)
        {
            where.Append(query.Ascending ? " and (enqueued_at, task_id) > (@at, @id)" : " and (enqueued_at, task_id) < (@at, @id)");
            parameters.AddRange([("at", position.EnqueuedAt), ("id", position.TaskId)]);
        }

        var order = query.Ascending ? "order by enqueued_at, task_id limit @limit" : "order by enqueued_at desc, task_id desc limit @limit";
        return (
            isFew
                ? $"with m as materialized (select payload, enqueued_at, task_id from grain_state {where}) select payload, enqueued_at, task_id from m {order}"
                : $"select payload, enqueued_at, task_id from grain_state {where} {order}",
            parameters);
    }

    private async Task<bool> IsFewAsync(string account, string function, string prefix, CancellationToken cancellationToken)
    {
        var low = new TaskKey(account, function, prefix).ToString();
        var found = await database.QueryAsync(
            FewText,
            [("low", low), ("high", KeyRange.End(low)!), ("limit", Few + 1)],
            _ => 0,
            cancellationToken);
        return found.Count <= Few;
    }

    // One index probe for each definition that has a queue, however long the queues are.
    internal const string DefinitionsWaitingPostgreSql =
        """
        with recursive f as (
            (select account, coalesce(line, function) as line from grain_state where kind = 'task' and status = 'Enqueued'
             order by account, coalesce(line, function) limit 1)
            union all
            select n.account, n.line from f cross join lateral (
                select g.account, coalesce(g.line, g.function) as line from grain_state g
                where g.kind = 'task' and g.status = 'Enqueued' and (g.account, coalesce(g.line, g.function)) > (f.account, f.line)
                order by g.account, coalesce(g.line, g.function) limit 1) n)
        select account, line from f
        """;

    // SQLite knows no lateral join; the probe is made once for each of the two columns.
    internal const string DefinitionsWaitingSqlite =
        """
        with recursive f (account, line) as (
            select * from (select account, coalesce(line, function) from grain_state where kind = 'task' and status = 'Enqueued'
             order by account, coalesce(line, function) limit 1)
            union all
            select
                (select g.account from grain_state g
                 where g.kind = 'task' and g.status = 'Enqueued' and (g.account, coalesce(g.line, g.function)) > (f.account, f.line)
                 order by g.account, coalesce(g.line, g.function) limit 1),
                (select coalesce(g.line, g.function) from grain_state g
                 where g.kind = 'task' and g.status = 'Enqueued' and (g.account, coalesce(g.line, g.function)) > (f.account, f.line)
                 order by g.account, coalesce(g.line, g.function) limit 1)
            from f where f.account is not null)
        select account, line from f where account is not null
        """;
}
