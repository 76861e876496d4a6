using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Store;
using GpuTasks.Tasks;

namespace GpuTasks.Storage;

/// <summary>
/// Reads task rows by their index columns. The texts repeat the conditions of the partial indexes word for word, since a
/// database uses such an index only where it sees that the query implies them.
/// </summary>
internal sealed class TaskIndex(StoreDatabase database, SystemTextJsonStorageSerializer serializer) : ITaskIndex
{
    public async Task<(IReadOnlyList<TaskState> Tasks, string? NextToken)> ListAsync(string account, TaskQuery query, CancellationToken cancellationToken)
    {
        PageToken? after = query.NextToken is { } token ? PageToken.Decode(token, account, query.Function, query.Ascending) : null;
        if (query.Prefix is { } prefix && !KeyRange.IsPossible(prefix))
        {
            return ([], null);
        }

        var (text, parameters) = ListText(account, query, after);
        var rows = await database.QueryAsync(
            text,
            parameters,
            r => (Position: new PageToken(r.GetInt64(1), r.GetString(2)), State: r.GetFieldValue<byte[]>(0)),
            cancellationToken);
        var page = rows.Count > query.Limit ? rows[..query.Limit] : rows;
        var tasks = page.ConvertAll(r => serializer.Deserialize<TaskState>(new BinaryData(r.State)));
        return (tasks, rows.Count > query.Limit ? page[^1].Position.Encode(account, query.Function, query.Ascending) : null);
    }

    public async Task<IReadOnlyDictionary<GpuTaskStatus, long>> CountAsync(string account, string function, CancellationToken cancellationToken)
    {
        var rows = await database.QueryAsync(
            "select status, count(*) from grain_state where kind = 'task' and listed and account = @account and function = @function group by status",
            [("account", account), ("function", function)],
            r => (Status: Enum.Parse<GpuTaskStatus>(r.GetString(0)), Count: r.GetInt64(1)),
            cancellationToken);
        return rows.ToDictionary(r => r.Status, r => r.Count);
    }

    public async Task<IReadOnlyList<Ticket>> WaitingAsync(string account, string function, Ticket? after, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("account", account), ("function", function), ("limit", limit)];
        var from = "";
        if (after is { } ticket)
        {
            from = "and (-priority, enqueued_at, task_id) > (@rank, @enqueuedAt, @taskId) ";
            parameters.AddRange([("rank", -ticket.Priority), ("enqueuedAt", ticket.EnqueuedAt.ToUnixTimeMilliseconds()), ("taskId", ticket.TaskId)]);
        }

        return await database.QueryAsync(
            "select task_id, priority, enqueued_at from grain_state "
            + $"where kind = 'task' and status = 'Enqueued' and account = @account and function = @function {from}"
            + "order by -priority, enqueued_at, task_id limit @limit",
            parameters,
            r => new Ticket(r.GetString(0), r.GetInt32(1), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(2))),
            cancellationToken);
    }

    public async Task<IReadOnlyList<string>> LiveAsync(string account, string function, string? afterTaskId, int limit, CancellationToken cancellationToken) =>
        await database.QueryAsync(
            "select task_id from grain_state "
            + "where kind = 'task' and status in ('Enqueued', 'Dequeued', 'Running', 'Retrying', 'Stopping') "
            + "and account = @account and function = @function and task_id > @after order by task_id limit @limit",
            [("account", account), ("function", function), ("after", afterTaskId ?? ""), ("limit", limit)],
            r => r.GetString(0),
            cancellationToken);

    public async Task<IReadOnlyList<TaskKey>> DueAsync(DateTimeOffset now, int limit, CancellationToken cancellationToken) =>
        await database.QueryAsync(
            "select account, function, task_id from grain_state "
            + "where kind = 'task' and wake_at is not null and wake_at <= @now order by wake_at, key limit @limit",
            [("now", now.ToUnixTimeMilliseconds()), ("limit", limit)],
            r => new TaskKey(r.GetString(0), r.GetString(1), r.GetString(2)),
            cancellationToken);

    public async Task<IReadOnlyList<string>> FunctionsWaitingAsync(CancellationToken cancellationToken) =>
        await database.QueryAsync(
            database.Provider == StoreProvider.PostgreSql ? FunctionsWaitingPostgreSql : FunctionsWaitingSqlite,
            [],
            r => $"{r.GetString(0)}/{r.GetString(1)}",
            cancellationToken);

    internal static (string Text, List<(string Name, object Value)> Parameters) ListText(string account, TaskQuery query, PageToken? after)
    {
        List<(string, object)> parameters = [("account", account), ("function", query.Function), ("limit", query.Limit + 1)];
        var text = new StringBuilder(
            "select payload, enqueued_at, task_id from grain_state "
            + "where kind = 'task' and listed and account = @account and function = @function");
        if (query.Status is { } status)
        {
            text.Append(" and status = @status");
            parameters.Add(("status", status.ToString()));
        }

        if (query.Qualifier is { } qualifier)
        {
            text.Append(" and qualifier = @qualifier");
            parameters.Add(("qualifier", qualifier));
        }

        if (query.StartedFromMs is { } from)
        {
            text.Append(" and enqueued_at >= @from");
            parameters.Add(("from", from));
        }

        if (query.StartedToMs is { } to)
        {
            text.Append(" and enqueued_at <= @to");
            parameters.Add(("to", to));
        }

        if (query.Prefix is { Length: > 0 } prefix)
        {
            // The row's key starts with account and function, so the primary key serves ids that are few among many.
            var low = new TaskKey(account, query.Function, prefix).ToString();
            text.Append(" and key >= @low and key < @high");
            parameters.AddRange([("low", low), ("high", KeyRange.End(low)!)]);
        }

        if (after is { } position)
        {
            text.Append(query.Ascending ? " and (enqueued_at, task_id) > (@at, @id)" : " and (enqueued_at, task_id) < (@at, @id)");
            parameters.AddRange([("at", position.EnqueuedAt), ("id", position.TaskId)]);
        }

        text.Append(query.Ascending ? " order by enqueued_at, task_id limit @limit" : " order by enqueued_at desc, task_id desc limit @limit");
        return (text.ToString(), parameters);
    }

    // One index probe for each function that has a queue, however long the queues are.
    internal const string FunctionsWaitingPostgreSql =
        """
        with recursive f as (
            (select account, function from grain_state where kind = 'task' and status = 'Enqueued'
             order by account, function limit 1)
            union all
            select n.account, n.function from f cross join lateral (
                select g.account, g.function from grain_state g
                where g.kind = 'task' and g.status = 'Enqueued' and (g.account, g.function) > (f.account, f.function)
                order by g.account, g.function limit 1) n)
        select account, function from f
        """;

    // SQLite knows no lateral join; the probe is made once for each of the two columns.
    internal const string FunctionsWaitingSqlite =
        """
        with recursive f (account, function) as (
            select * from (select account, function from grain_state where kind = 'task' and status = 'Enqueued'
             order by account, function limit 1)
            union all
            select
                (select g.account from grain_state g
                 where g.kind = 'task' and g.status = 'Enqueued' and (g.account, g.function) > (f.account, f.function)
                 order by g.account, g.function limit 1),
                (select g.function from grain_state g
                 where g.kind = 'task' and g.status = 'Enqueued' and (g.account, g.function) > (f.account, f.function)
                 order by g.account, g.function limit 1)
            from f where f.account is not null)
        select account, function from f where account is not null
        """;
}
