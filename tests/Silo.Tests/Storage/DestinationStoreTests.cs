using System.Text;
using GpuTasks.Destinations;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Tests.Storage;

public sealed class DestinationStoreOnSqliteTests(SqliteStore store) : DestinationStoreTests(store), IClassFixture<SqliteStore>;

public sealed class DestinationStoreOnPostgreSqlTests(PostgreSqlStore store) : DestinationStoreTests(store), IClassFixture<PostgreSqlStore>;

/// <summary>What the store keeps for destinations: topics, and rows of tasks whose message was given up.</summary>
public abstract class DestinationStoreTests
{
    private readonly TestStore store;
    private readonly string account = Samples.NewAccount();

    protected DestinationStoreTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private ITopicStore Topics => store.Services.GetRequiredService<ITopicStore>();

    private IDeadLetterIndex DeadLetters => store.Services.GetRequiredService<IDeadLetterIndex>();

    [Fact]
    public async Task Messages_are_numbered_without_gaps_and_a_repeat_adds_nothing()
    {
        await Task.WhenAll(Enumerable.Range(0, 60).Select(i => Task.Run(() => AppendAsync("t", $"id{i % 30}"))));
        var read = await Topics.ReadAsync(account, "t", 0, 100, Cancel);
        Assert.Equal(Enumerable.Range(1, 30).Select(i => (long)i), read.Select(message => message.Sequence));
        Assert.Equal(30, read.Select(message => message.Id).Distinct().Count());
        Assert.All(read, message => Assert.Equal($"body of {message.Id}", Encoding.UTF8.GetString(message.Body)));
        Assert.Equal([29L, 30L], (await Topics.ReadAsync(account, "t", 28, 100, Cancel)).Select(message => message.Sequence));
        Assert.Equal([3L, 4L], (await Topics.ReadAsync(account, "t", 2, 2, Cancel)).Select(message => message.Sequence));
        Assert.Empty(await Topics.ReadAsync(account + "x", "t", 0, 100, Cancel));
    }

    [Fact]
    public async Task A_reader_that_goes_on_after_what_it_has_read_misses_nothing_while_others_write()
    {
        using var done = new CancellationTokenSource();
        var writers = Task.WhenAll(Enumerable.Range(0, 4).Select(w => Task.Run(async () =>
        {
            for (var i = 0; i < 25; i++)
            {
                await AppendAsync("busy", $"{w}-{i}");
            }
        })));
        var seen = new HashSet<string>();
        for (var cursor = 0L; seen.Count < 100;)
        {
            var isOver = writers.IsCompleted;
            var page = await Topics.ReadAsync(account, "busy", cursor, 7, Cancel);
            Assert.All(page, message => Assert.True(seen.Add(message.Id)));
            cursor = page.Count > 0 ? page[^1].Sequence : cursor;
            Assert.False(isOver && page.Count == 0, $"only {seen.Count} were seen");
        }

        await writers;
    }

    [Fact]
    public async Task Topics_are_listed_purged_by_age_and_number_and_go_on_counting()
    {
        var now = Samples.Noon;
        for (var i = 0; i < 6; i++)
        {
            await Topics.AppendAsync(account, "a", $"id{i}", now.AddHours(i), "x"u8.ToArray(), Cancel);
        }

        await AppendAsync("b", "one");
        Assert.Equal([new TopicSummary("a", 1, 6), new TopicSummary("b", 1, 1)], await Topics.ListAsync(account, null, 10, Cancel));
        Assert.Equal([new TopicSummary("b", 1, 1)], await Topics.ListAsync(account, "a", 10, Cancel));

        // Other tests' messages are younger, and no topic of theirs has as many.
        await UntilDoneAsync(now.AddHours(2), 1_000);
        Assert.Equal(new TopicSummary("a", 3, 6), (await Topics.ListAsync(account, null, 1, Cancel))[0]);
        for (var i = 6; i < 303; i++)
        {
            await Topics.AppendAsync(account, "a", $"id{i}", DateTimeOffset.UtcNow, [], Cancel);
        }

        await UntilDoneAsync(null, 300);
        Assert.Equal(new TopicSummary("a", 4, 303), (await Topics.ListAsync(account, null, 1, Cancel))[0]);
        Assert.True(await Topics.DeleteAsync(account, "a", Cancel));
        Assert.False(await Topics.DeleteAsync(account, "a", Cancel));
        Assert.Empty(await Topics.ReadAsync(account, "a", 0, 10, Cancel));
        await AppendAsync("a", "id0");
        Assert.Equal(1, Assert.Single(await Topics.ReadAsync(account, "a", 0, 10, Cancel)).Sequence);
    }

    [Fact]
    public async Task An_account_has_so_many_topics_and_a_page_so_many_bytes()
    {
        for (var i = 0; i < TopicLimits.MaxTopics; i++)
        {
            Assert.True(await AppendAsync($"t{i}", "id"));
        }

        Assert.False(await AppendAsync("more", "id"));
        Assert.True(await AppendAsync("t5", "another"));
        foreach (var id in new[] { "x", "y", "z" })
        {
            await Topics.AppendAsync(account, "t1", id, Samples.Noon, new byte[3_000_000], Cancel);
        }

        // One that is too long by itself still comes.
        Assert.Equal(["id", "x"], (await Topics.ReadAsync(account, "t1", 0, 10, Cancel)).Select(message => message.Id));
        await Topics.AppendAsync(account, "t2", "huge", Samples.Noon, new byte[5_000_000], Cancel);
        Assert.Equal(["huge"], (await Topics.ReadAsync(account, "t2", 1, 10, Cancel)).Select(message => message.Id));
    }

    [Fact]
    public async Task Dead_letters_are_paged_by_when_they_were_given_up_for_one_account_alone()
    {
        var expected = new List<string>();
        for (var i = 0; i < 7; i++)
        {
            // Some at the same time: the key decides.
            await WriteAsync(Dead($"f{i % 2}", $"t{i}", Samples.Noon.AddSeconds(i / 3)));
            expected.Add($"t{i}");
        }

        await WriteAsync(Dead("f0", "alive", Samples.Noon) with { DeadLetter = null });
        var found = new List<string>();
        string? token = null;
        do
        {
            (var tasks, token) = await DeadLetters.ListAsync(account, null, null, token, 2, Cancel);
            found.AddRange(tasks.Select(task => task.Key!.Value.TaskId));
        }
        while (token is not null);
        Assert.Equal(expected.Order(StringComparer.Ordinal), found.Order(StringComparer.Ordinal));
        Assert.Equal(["t0", "t2", "t1"], found.Take(3));
        Assert.Equal(["t0", "t2"], (await DeadLetters.ListAsync(account, "f0", Samples.Noon.AddSeconds(1), null, 10, Cancel)).Tasks.Select(task => task.Key!.Value.TaskId));
        Assert.Empty((await DeadLetters.ListAsync(account + "x", null, null, null, 10, Cancel)).Tasks);
        await Assert.ThrowsAsync<FormatException>(() => DeadLetters.ListAsync(account, null, null, "nonsense", 10, Cancel));

        // The row as the group committer changes it.
        var stored = new Stored<TaskState>();
        var id = GrainId.Create("task", new TaskKey(account, "f0", "t0").ToString());
        await store.Storage.ReadStateAsync(StoreNames.Task, id, stored);
        stored.State = stored.State with { DeadLetter = null };
        await store.Storage.WriteStateAsync(StoreNames.Task, id, stored);
        Assert.Equal(6, (await DeadLetters.ListAsync(account, null, null, null, 10, Cancel)).Tasks.Count);
    }

    [Fact]
    public async Task Deliveries_that_are_due_do_not_stand_before_tasks_and_are_paged()
    {
        var then = new DateTimeOffset(1999, 1, 1, 0, 0, 0, TimeSpan.Zero);
        for (var i = 0; i < 5; i++)
        {
            await WriteAsync(Dead("f", $"d{i}", then) with { WakeAt = then.AddSeconds(i / 2) });
        }

        await WriteAsync(Samples.Waiting(new TaskKey(account, "f", "waits"), then) with { WakeAt = then.AddSeconds(1) });
        Assert.Equal([new TaskKey(account, "f", "waits")], (await store.Tasks.DueAsync(then.AddSeconds(9), 100, Cancel)).Where(key => key.Account == account));
        var found = new List<string>();
        DueDelivery? after = null;
        for (IReadOnlyList<DueDelivery> page = [default]; page.Count > 0; after = page.Count > 0 ? page[^1] : after)
        {
            page = await store.Tasks.DueDeliveriesAsync(then.AddSeconds(1), after, 2, Cancel);
            found.AddRange(page.Where(one => one.Key.Account == account).Select(one => one.Key.TaskId));
        }

        Assert.Equal(["d0", "d1", "d2", "d3"], found);
    }

    private Task<bool> AppendAsync(string topic, string id) =>
        Topics.AppendAsync(account, topic, id, DateTimeOffset.UtcNow, Encoding.UTF8.GetBytes($"body of {id}"), Cancel);

    private async Task UntilDoneAsync(DateTimeOffset? before, int keep)
    {
        while (await Topics.PurgeAsync(before, keep, 2, Cancel))
        {
        }
    }

    private TaskState Dead(string function, string id, DateTimeOffset at) => Samples.Waiting(new TaskKey(account, function, id), at) with
    {
        Status = GpuTaskStatus.Failed,
        EndedAt = at,
        DestinationStatus = "Failed",
        DeadLetter = new DeadLetter("d", "https://a.example/", 3, "gone", at),
        WakeAt = at.AddDays(7),
    };

    private Task WriteAsync(TaskState task) =>
        store.Storage.WriteStateAsync(StoreNames.Task, GrainId.Create("task", task.Key!.Value.ToString()), new Stored<TaskState>(task));
}
