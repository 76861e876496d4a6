using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class TaskPurgeOnSqliteTests(SqliteStore store) : TaskPurgeTests(store), IClassFixture<SqliteStore>;

public sealed class TaskPurgeOnPostgreSqlTests(PostgreSqlStore store) : TaskPurgeTests(store), IClassFixture<PostgreSqlStore>;

/// <summary>What is deleted of ended tasks, and what is not.</summary>
public abstract class TaskPurgeTests : IAsyncLifetime
{
    private readonly TestStore store;
    private readonly string account = Samples.NewAccount();

    private readonly DateTimeOffset end = Samples.Noon;

    protected TaskPurgeTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private ITaskPurge Purge => store.Services.GetRequiredService<ITaskPurge>();

    /// <summary>A purge asks for no account, and other tests leave rows behind.</summary>
    public async ValueTask InitializeAsync()
    {
        foreach (var recorded in new[] { true, false })
        {
            while (await Purge.PurgeAsync(recorded, DateTimeOffset.UtcNow, 1_000, Cancel) > 0)
            {
            }
        }
    }

    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task Only_ended_tasks_older_than_the_limit_go_the_oldest_first_and_no_more_than_asked()
    {
        foreach (var i in Enumerable.Range(0, 5))
        {
            await WriteAsync(Ended($"old{i}", end.AddSeconds(i)));
        }

        await WriteAsync(Ended("young", end.AddHours(2)));
        await WriteAsync(Samples.Waiting(new TaskKey(account, "f", "waits"), end));
        Assert.Equal(2, await Purge.PurgeAsync(recorded: true, end.AddHours(1), 2, Cancel));
        Assert.Equal(["old2", "old3", "old4", "waits", "young"], await IdsAsync());
        Assert.Equal(3, await Purge.PurgeAsync(recorded: true, end.AddHours(1), 100, Cancel));
        Assert.Equal(0, await Purge.PurgeAsync(recorded: true, end.AddHours(1), 100, Cancel));
        Assert.Equal(["waits", "young"], await IdsAsync());
    }

    [Fact]
    public async Task Payload_and_result_beside_the_row_go_with_it_and_no_others()
    {
        await Purge.PurgeAsync(recorded: true, DateTimeOffset.UtcNow, 1_000, Cancel);
        foreach (var (id, at) in new[] { ("old", end), ("young", end.AddHours(2)) })
        {
            var task = Ended(id, at);
            await WriteAsync(task with { Submission = task.Submission! with { Payload = new byte[40_000] }, Result = new byte[50_000] });
        }

        Assert.Equal(1, await Purge.PurgeAsync(recorded: true, end.AddHours(1), 100, Cancel));
        var left = await store.Database.QueryAsync("select key from grain_blob where key like @keys", [("keys", $"{account}/%")], r => r.GetString(0), Cancel);
        Assert.Equal(2, left.Count);
        Assert.All(left, key => Assert.EndsWith("/young", key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_task_whose_destination_is_still_to_be_told_stays()
    {
        await WriteAsync(Ended("told", end));
        await WriteAsync(Ended("untold", end) with { Outbox = new OutboxEntry("d", "http://a.example", 3), WakeAt = end });
        await Purge.PurgeAsync(recorded: true, end.AddHours(1), 100, Cancel);
        Assert.Equal(["untold"], await IdsAsync());
    }

    [Fact]
    public async Task Calls_without_task_mode_are_purged_on_their_own()
    {
        await WriteAsync(Ended("seen", end));
        var unseen = Ended("unseen", end);
        await WriteAsync(unseen with { Submission = unseen.Submission! with { Recorded = false } });
        Assert.Equal(1, await Purge.PurgeAsync(recorded: false, end.AddHours(1), 100, Cancel));
        Assert.False((await ReadAsync("unseen")).RecordExists);
        Assert.True((await ReadAsync("seen")).RecordExists);
    }

    [Fact]
    public async Task A_purged_id_may_be_used_again_and_who_slept_through_it_cannot_write()
    {
        var old = await WriteAsync(Ended("again", end));
        await Purge.PurgeAsync(recorded: true, end.AddHours(1), 100, Cancel);
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.Storage.WriteStateAsync(StoreNames.Task, Id("again"), old));
        Assert.False((await ReadAsync("again")).RecordExists);
        await WriteAsync(Samples.Waiting(new TaskKey(account, "f", "again")));
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.Storage.WriteStateAsync(StoreNames.Task, Id("again"), old));
        Assert.Equal(GpuTaskStatus.Enqueued, (await ReadAsync("again")).State.Status);
    }

    private TaskState Ended(string id, DateTimeOffset at) => Samples.Waiting(new TaskKey(account, "f", id), at) with
    {
        Status = GpuTaskStatus.Succeeded,
        EndedAt = at,
        WakeAt = null,
    };

    private GrainId Id(string id) => GrainId.Create("task", new TaskKey(account, "f", id).ToString());

    private async Task<Stored<TaskState>> WriteAsync(TaskState task)
    {
        var stored = new Stored<TaskState>(task);
        await store.Storage.WriteStateAsync(StoreNames.Task, Id(task.Key!.Value.TaskId), stored);
        return stored;
    }

    private async Task<Stored<TaskState>> ReadAsync(string id)
    {
        var stored = new Stored<TaskState>();
        await store.Storage.ReadStateAsync(StoreNames.Task, Id(id), stored);
        return stored;
    }

    private async Task<IEnumerable<string>> IdsAsync() =>
        (await store.Tasks.ListAsync(account, new TaskQuery { Function = "f", Limit = 100 }, Cancel)).Tasks.Select(t => t.Key!.Value.TaskId).Order(StringComparer.Ordinal);
}
