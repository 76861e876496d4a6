using System.Globalization;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using Microsoft.Extensions.Logging.Abstractions;

namespace GpuTasks.Tests.Storage;

public sealed class QueryPlanOnSqliteTests() : QueryPlanTests(new SqliteStore())
{
    protected override string Fill =>
        """
        with recursive n (i) as (select 0 union all select i + 1 from n where i < 19999)
        insert into grain_state (key, kind, n0, n1, service, version, payload, account, function, task_id, qualifier, status, listed, priority, enqueued_at, ended_at, wake_at, dead_at)
        select 'a/f' || (i % 4) || '/t' || i, 'task', 0, 0, 's', 1, x'7b7d', 'a', 'f' || (i % 4), 't' || i, 'LATEST',
            case when i % 50 = 0 then 'Enqueued' when i % 50 = 1 then 'Running' else 'Succeeded' end, 1, 0, i, case when i % 50 > 1 then i end, case when i % 50 < 4 then i end, case when i % 50 = 3 then i end
        from n
        """;

    protected override string Settle => "analyze";

    // "SCAN ... USING INDEX" reads an index in its order, which is what the next function in line takes; a bare SCAN reads the table.
    protected override bool ReadsTheTable(string plan) => plan.Split('\n').Any(l => l.Contains("SCAN grain_state", StringComparison.Ordinal) && !l.Contains("INDEX", StringComparison.Ordinal));

    protected override async Task<string> ExplainAsync(string text, IEnumerable<(string, object)> parameters) =>
        string.Join('\n', await Database.QueryAsync($"explain query plan {text}", parameters, r => r.GetString(3), Cancel));
}

public sealed class QueryPlanOnPostgreSqlTests() : QueryPlanTests(new PostgreSqlStore())
{
    protected override string Fill =>
        """
        insert into grain_state (key, kind, n0, n1, service, version, payload, account, function, task_id, qualifier, status, listed, priority, enqueued_at, ended_at, wake_at, dead_at)
        select 'a/f' || (i % 4) || '/t' || i, 'task', 0, 0, 's', 1, '{}', 'a', 'f' || (i % 4), 't' || i, 'LATEST',
            case when i % 50 = 0 then 'Enqueued' when i % 50 = 1 then 'Running' else 'Succeeded' end, 1, 0, i, case when i % 50 > 1 then i end, case when i % 50 < 4 then i end, case when i % 50 = 3 then i end
        from generate_series(0, 19999) as i
        """;

    protected override string Settle => "vacuum analyze grain_state";

    protected override bool ReadsTheTable(string plan) => plan.Contains("Seq Scan", StringComparison.Ordinal);

    protected override async Task<string> ExplainAsync(string text, IEnumerable<(string, object)> parameters) =>
        string.Join('\n', await Database.QueryAsync($"explain {text}", parameters, r => r.GetString(0), Cancel));
}

public abstract class QueryPlanTests(TestStore store) : IAsyncLifetime
{
    private static readonly TaskQuery Plain = new() { Function = "f1" };
    private static readonly PageToken After = new(10_000, "t10000");
    private StoreDatabase? database;

    protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    internal StoreDatabase Database => database!;

    protected abstract string Fill { get; }

    /// <summary>What the database does by itself after a while.</summary>
    protected abstract string Settle { get; }

    public async ValueTask InitializeAsync()
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        database = new StoreDatabase(await store.CreateAsync());
        await new StoreMigrator(database, StoreScript.For(database.Provider), NullLogger<StoreMigrator>.Instance).MigrateAsync("s", Cancel);
        await database.QueryAsync(Fill, [], _ => 0, Cancel);
        await database.QueryAsync(Settle, [], _ => 0, Cancel);
    }

    public async ValueTask DisposeAsync()
    {
        if (database is not null)
        {
            await database.DisposeAsync();
        }

        await store.DropAsync();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Counts_come_from_the_index_alone()
    {
        var plan = await ExplainAsync(TaskIndex.CountText, [("account", "a"), ("function", "f1")]);
        Assert.True(plan.Contains("Index Only Scan", StringComparison.Ordinal) || plan.Contains("COVERING INDEX", StringComparison.Ordinal), plan);
    }

    [Fact]
    public async Task Every_list_is_read_from_an_index_in_its_order()
    {
        await UsesAsync("task_by_time", Plain);
        await UsesAsync("task_by_time", Plain with { Ascending = true });
        await UsesAsync("task_by_time", Plain, After);
        await UsesAsync("task_by_time", Plain with { Ascending = true }, After);
        await UsesAsync("task_by_time", Plain with { StartedFromMs = 5_000, StartedToMs = 6_000 });
        await UsesAsync("task_by_time", Plain with { Qualifier = "LATEST" });
        await UsesAsync("task_by_time", Plain with { Prefix = "t" });
        await UsesAsync("task_by_status", Plain with { Status = GpuTaskStatus.Running });
        await UsesAsync("task_by_status", Plain with { Status = GpuTaskStatus.Running, Ascending = true }, After);
        await UsesAsync("task_by_status", Plain with { Status = GpuTaskStatus.Running, StartedFromMs = 5_000 });
    }

    [Fact]
    public async Task Ids_of_a_rare_prefix_are_found_by_key()
    {
        var (text, parameters) = TaskIndex.ListText("a", Plain with { Prefix = "t123", Status = GpuTaskStatus.Succeeded }, null, isFew: true);
        Uses(PrimaryKey, await ExplainAsync(text, parameters));
        Uses(PrimaryKey, await ExplainAsync(TaskIndex.FewText, [("low", "a/f1/t123"), ("high", "a/f1/t124"), ("limit", 10)]));
    }

    [Fact]
    public async Task Counts_queues_and_due_tasks_come_from_an_index()
    {
        List<(string, object)> parameters = [("account", "a"), ("function", "f1"), ("limit", 20)];
        Uses("task_by_status", await ExplainAsync(TaskIndex.CountText, parameters[..2]));
        List<(string, object)> queue = [("account", "a"), ("line", "f1"), ("limit", 20)];
        Uses("task_waiting", await ExplainAsync(TaskIndex.WaitingText(goesOn: false), queue));
        Uses("task_waiting", await ExplainAsync(TaskIndex.WaitingText(goesOn: true), [.. queue, ("rank", 0), ("enqueuedAt", 10_000L), ("taskId", "t10000")]));
        Uses("task_waiting", await ExplainAsync(TaskIndex.CountAheadText, [.. queue[..2], ("rank", 0), ("enqueuedAt", 10_000L), ("taskId", "t10000")]));
        Uses("task_live", await ExplainAsync(TaskIndex.LiveText(ofVersion: false), [.. parameters, ("after", "t5")]));
        Uses("task_live", await ExplainAsync(TaskIndex.LiveText(ofVersion: true), [.. parameters, ("after", "t5"), ("line", "f1.2")]));
        Uses("task_due", await ExplainAsync(TaskIndex.DueText, [("now", 100L), ("limit", 20)]));
        Uses("delivery_due", await ExplainAsync(TaskIndex.DueDeliveriesText(goesOn: false), [("now", 100L), ("limit", 20)]));
        Uses("delivery_due", await ExplainAsync(TaskIndex.DueDeliveriesText(goesOn: true), [("now", 1_000L), ("limit", 20), ("at", 100L), ("key", "a/f1/t100")]));
        Uses("dead_letter", await ExplainAsync(DeadLetterIndex.Text(ofFunction: false, isBefore: true, goesOn: true), [("account", "a"), ("before", 5_000L), ("at", 100L), ("key", "a/f1/t100"), ("limit", 20)]));
        Uses("task_waiting", await ExplainAsync(database!.Provider == StoreProvider.Sqlite ? TaskIndex.DefinitionsWaitingSqlite : TaskIndex.DefinitionsWaitingPostgreSql, []));
    }

    [Fact]
    public async Task What_is_purged_comes_from_an_index() => Uses("task_ended", await ExplainAsync(
        database!.Provider == StoreProvider.Sqlite ? TaskPurge.Sqlite : TaskPurge.PostgreSql,
        [("listed", 1), ("before", 300L), ("limit", 500)]));

    protected abstract bool ReadsTheTable(string plan);

    protected abstract Task<string> ExplainAsync(string text, IEnumerable<(string, object)> parameters);

    private string PrimaryKey => database!.Provider == StoreProvider.Sqlite ? "sqlite_autoindex_grain_state_1" : "grain_state_pkey";

    private async Task UsesAsync(string index, TaskQuery query, PageToken? after = null)
    {
        var (text, parameters) = TaskIndex.ListText("a", query, after, isFew: false);
        var plan = await ExplainAsync(text, parameters);
        Uses(index, plan);
        Assert.False(
            plan.Contains("Sort", StringComparison.Ordinal) || plan.Contains("TEMP B-TREE", StringComparison.Ordinal),
            string.Create(CultureInfo.InvariantCulture, $"{query} is sorted:\n{plan}"));
    }

    private void Uses(string index, string plan)
    {
        Assert.True(plan.Contains(index, StringComparison.Ordinal), $"{index} is not used:\n{plan}");
        Assert.False(ReadsTheTable(plan), plan);
    }
}
