using System.Buffers.Text;
using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Store;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Storage;

public sealed class TaskIndexOnSqliteTests(SqliteStore store) : TaskIndexTests(store), IClassFixture<SqliteStore>;

public sealed class TaskIndexOnPostgreSqlTests(PostgreSqlStore store) : TaskIndexTests(store), IClassFixture<PostgreSqlStore>;

public abstract class TaskIndexTests
{
    private readonly TestStore store;
    private readonly string account = Samples.NewAccount();

    protected TaskIndexTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_list_is_newest_first_unless_asked_otherwise()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(3));
        await AddAsync("c", At(2));
        Assert.Equal(["b", "c", "a"], await ListAsync(new TaskQuery { Function = "f" }));
        Assert.Equal(["a", "c", "b"], await ListAsync(new TaskQuery { Function = "f", Ascending = true }));
    }

    [Fact]
    public async Task A_list_gives_the_tasks_as_they_were_stored()
    {
        await AddAsync("a", At(1));
        var (tasks, next) = await store.Tasks.ListAsync(account, new TaskQuery { Function = "f" }, Cancel);
        Assert.Null(next);
        Assert.Equal([1, 2, 3], Assert.Single(tasks).Submission!.Payload);
    }

    [Fact]
    public async Task A_list_shows_only_its_account_and_function()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(1), function: "f2");
        await AddAsync("c", At(1), account: Samples.NewAccount());
        Assert.Equal(["a"], await ListAsync(new TaskQuery { Function = "f" }));
        Assert.Equal(["b"], await ListAsync(new TaskQuery { Function = "f2" }));
        Assert.Empty(await ListAsync(new TaskQuery { Function = "none" }));
    }

    [Fact]
    public async Task Tasks_that_leave_no_record_are_neither_listed_nor_counted_but_wait_and_wake()
    {
        await AddAsync("a", At(1), recorded: false);
        Assert.Empty(await ListAsync(new TaskQuery { Function = "f" }));
        Assert.Empty(await store.Tasks.CountAsync(account, "f", Cancel));
        Assert.Single(await store.Tasks.WaitingAsync(account, "f", null, 10, Cancel));
        Assert.Contains($"{account}/f", await store.Tasks.DefinitionsWaitingAsync(Cancel));
        Assert.Equal(["a"], await store.Tasks.LiveAsync(account, "f", null, null, 10, Cancel));
        Assert.Contains(new TaskKey(account, "f", "a"), await store.Tasks.DueAsync(At(1).AddDays(1), 10_000, Cancel));
    }

    [Fact]
    public async Task Status_filters()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(2), GpuTaskStatus.Running);
        await AddAsync("c", At(3), GpuTaskStatus.Succeeded);
        await AddAsync("d", At(4), GpuTaskStatus.Running);
        Assert.Equal(["d", "b"], await ListAsync(new TaskQuery { Function = "f", Status = GpuTaskStatus.Running }));
        Assert.Empty(await ListAsync(new TaskQuery { Function = "f", Status = GpuTaskStatus.Expired }));
    }

    [Fact]
    public async Task Qualifier_filters()
    {
        await AddAsync("a", At(1), qualifier: "prod");
        await AddAsync("b", At(2));
        Assert.Equal(["a"], await ListAsync(new TaskQuery { Function = "f", Qualifier = "prod" }));
    }

    [Fact]
    public async Task Times_filter_inclusively()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(2));
        await AddAsync("c", At(3));
        Assert.Equal(["c", "b"], await ListAsync(new TaskQuery { Function = "f", StartedFromMs = Ms(At(2)) }));
        Assert.Equal(["b", "a"], await ListAsync(new TaskQuery { Function = "f", StartedToMs = Ms(At(2)) }));
        Assert.Equal(["b"], await ListAsync(new TaskQuery { Function = "f", StartedFromMs = Ms(At(2)), StartedToMs = Ms(At(2)) }));
        Assert.Equal(["c"], await ListAsync(new TaskQuery { Function = "f", StartedFromMs = Ms(At(2)) + 1 }));
    }

    [Fact]
    public async Task Prefix_filters_by_bytes()
    {
        foreach (var id in (string[])["job", "job-1", "job_1", "jobs", "joa", "jpb", "Job", "jo"])
        {
            await AddAsync(id, At(1));
        }

        Assert.Equal(["job", "job-1", "job_1", "jobs"], await ListAsync(new TaskQuery { Function = "f", Prefix = "job", Ascending = true }));
        Assert.Equal(["job_1"], await ListAsync(new TaskQuery { Function = "f", Prefix = "job_" }));
        Assert.Equal(["Job"], await ListAsync(new TaskQuery { Function = "f", Prefix = "J" }));
        Assert.Equal(8, (await ListAsync(new TaskQuery { Function = "f", Prefix = "" })).Count);
    }

    [Theory]
    [InlineData("%")]
    [InlineData("job%")]
    [InlineData("j_b")]
    [InlineData("job-1/")]
    [InlineData("'; drop table grain_state; --")]
    [InlineData("job\0")]
    [InlineData("job<lone>")]
    [InlineData("job\uffff")]
    [InlineData("job\ud7ff")]
    [InlineData("job\udbff\udfff")]
    [InlineData("\udbff\udfff")]
    public async Task A_prefix_of_strange_characters_matches_nothing_and_harms_nothing(string prefix)
    {
        await AddAsync("job-1", At(1));
        await AddAsync("jab", At(1));
        Assert.Empty(await ListAsync(new TaskQuery { Function = "f", Prefix = Samples.WithLoneSurrogate(prefix) }));
        Assert.Equal(2, (await ListAsync(new TaskQuery { Function = "f" })).Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_prefix_of_many_tasks_pages_like_one_of_few(bool ascending)
    {
        await Task.WhenAll(Enumerable.Range(0, 1100).Select(i => AddAsync($"m{i:0000}", At(i / 3))));
        await Task.WhenAll(Enumerable.Range(0, 10).Select(i => AddAsync($"n{i:0000}", At(i))));
        var seen = new List<string>();
        string? token = null;
        do
        {
            var (tasks, next) = await store.Tasks.ListAsync(
                account,
                new TaskQuery { Function = "f", Prefix = "m", Ascending = ascending, Limit = 100, NextToken = token },
                Cancel);
            seen.AddRange(tasks.Select(t => t.Key!.Value.TaskId));
            token = next;
        }
        while (token is not null);

        var expected = Enumerable.Range(0, 1100).Select(i => $"m{i:0000}");
        Assert.Equal(ascending ? expected : expected.Reverse(), seen);
    }

    [Fact]
    public async Task A_prefix_does_not_reach_into_another_function()
    {
        await AddAsync("a", At(1), function: "f");
        await AddAsync("a", At(1), function: "f-2");
        Assert.Single(await ListAsync(new TaskQuery { Function = "f", Prefix = "a" }));
    }

    [Fact]
    public async Task Filters_combine()
    {
        await AddAsync("x1", At(1), GpuTaskStatus.Failed, qualifier: "prod");
        await AddAsync("x2", At(2), GpuTaskStatus.Failed, qualifier: "prod");
        await AddAsync("x3", At(2), GpuTaskStatus.Failed);
        await AddAsync("x4", At(2), GpuTaskStatus.Stopped, qualifier: "prod");
        await AddAsync("y5", At(2), GpuTaskStatus.Failed, qualifier: "prod");
        var query = new TaskQuery
        {
            Function = "f",
            Status = GpuTaskStatus.Failed,
            Qualifier = "prod",
            Prefix = "x",
            StartedFromMs = Ms(At(2)),
            StartedToMs = Ms(At(9)),
        };
        Assert.Equal(["x2"], await ListAsync(query));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Pages_show_every_task_once_also_when_times_are_equal(bool ascending)
    {
        var expected = new List<(DateTimeOffset At, string Id)>();
        for (var i = 0; i < 23; i++)
        {
            var task = (At: At(i / 7), Id: $"t{i * 7 % 23:00}");
            expected.Add(task);
            await AddAsync(task.Id, task.At);
        }

        var all = expected.OrderBy(t => t.At).ThenBy(t => t.Id, StringComparer.Ordinal).Select(t => t.Id).ToList();
        if (!ascending)
        {
            all.Reverse();
        }

        foreach (var limit in (int[])[1, 4, 22, 23, 24])
        {
            var seen = new List<string>();
            string? token = null;
            do
            {
                var (tasks, next) = await store.Tasks.ListAsync(
                    account,
                    new TaskQuery { Function = "f", Ascending = ascending, Limit = limit, NextToken = token },
                    Cancel);
                Assert.InRange(tasks.Count, 1, limit);
                seen.AddRange(tasks.Select(t => t.Key!.Value.TaskId));
                token = next;
            }
            while (token is not null);

            Assert.Equal(all, seen);
        }
    }

    [Fact]
    public async Task A_page_goes_on_where_the_last_one_ended_although_tasks_come_and_go()
    {
        for (var i = 0; i < 6; i++)
        {
            await AddAsync($"t{i}", At(i));
        }

        var (first, token) = await store.Tasks.ListAsync(account, new TaskQuery { Function = "f", Limit = 3 }, Cancel);
        Assert.Equal(["t5", "t4", "t3"], first.Select(t => t.Key!.Value.TaskId));
        await AddAsync("t9", At(9));
        await RemoveAsync("t3");
        Assert.Equal(["t2", "t1", "t0"], await ListAsync(new TaskQuery { Function = "f", Limit = 3, NextToken = token }));
    }

    [Fact]
    public async Task A_token_of_another_list_is_refused()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(2));
        var (_, token) = await store.Tasks.ListAsync(account, new TaskQuery { Function = "f", Limit = 1 }, Cancel);
        Assert.NotNull(token);
        var foreign = new List<string> { "", "x", "!!!", token[1..], token + "A", Base64Url.EncodeToString("1/d/x"u8), Base64Url.EncodeToString([0xff, 0xfe]) };
        foreign.Add(Base64Url.EncodeToString(Encoding.UTF8.GetBytes($"1/d/{account}/f/12x/a")));
        foreach (var text in foreign)
        {
            await Assert.ThrowsAsync<FormatException>(() => store.Tasks.ListAsync(account, new TaskQuery { Function = "f", NextToken = text }, Cancel));
        }

        await Assert.ThrowsAsync<FormatException>(
            () => store.Tasks.ListAsync(account, new TaskQuery { Function = "f", NextToken = token, Ascending = true }, Cancel));
        await Assert.ThrowsAsync<FormatException>(
            () => store.Tasks.ListAsync(account, new TaskQuery { Function = "g", NextToken = token }, Cancel));
        await Assert.ThrowsAsync<FormatException>(
            () => store.Tasks.ListAsync(Samples.NewAccount(), new TaskQuery { Function = "f", NextToken = token }, Cancel));
    }

    [Fact]
    public async Task Counts_follow_the_tasks()
    {
        await AddAsync("a", At(1));
        await AddAsync("b", At(1));
        await AddAsync("c", At(1), GpuTaskStatus.Running);
        await AddAsync("d", At(1), function: "g");
        Assert.Equal(
            new Dictionary<GpuTaskStatus, long> { [GpuTaskStatus.Enqueued] = 2, [GpuTaskStatus.Running] = 1 },
            await store.Tasks.CountAsync(account, "f", Cancel));
        await RemoveAsync("a");
        Assert.Equal(1, (await store.Tasks.CountAsync(account, "f", Cancel))[GpuTaskStatus.Enqueued]);
    }

    [Fact]
    public async Task Waiting_tasks_come_by_priority_then_time_then_id()
    {
        await AddAsync("late", At(5), priority: 9);
        await AddAsync("b", At(1));
        await AddAsync("a", At(1));
        await AddAsync("c", At(0));
        await AddAsync("mid", At(7), priority: 3);
        await AddAsync("runs", At(0), GpuTaskStatus.Running, priority: 9);
        await AddAsync("retries", At(0), GpuTaskStatus.Retrying, priority: 9);
        string[] order = ["late", "mid", "c", "a", "b"];
        Assert.Equal(order, (await store.Tasks.WaitingAsync(account, "f", null, 10, Cancel)).Select(t => t.TaskId));

        var seen = new List<Ticket>();
        while (await store.Tasks.WaitingAsync(account, "f", seen.Count == 0 ? null : seen[^1], 2, Cancel) is { Count: > 0 } page)
        {
            seen.AddRange(page);
        }

        Assert.Equal(order, seen.Select(t => t.TaskId));
        Assert.Equal(new Ticket("late", 9, At(5)), seen[0]);
        for (var place = 0; place < seen.Count; place++)
        {
            Assert.Equal(place, await store.Tasks.CountAheadAsync(account, "f", seen[place], Cancel));
        }
    }

    [Fact]
    public async Task A_ticket_with_a_finer_time_than_the_index_marks_the_same_place()
    {
        await AddAsync("a", At(1).AddTicks(5));
        await AddAsync("b", At(1).AddTicks(6));
        var after = new Ticket("a", 0, At(1).AddTicks(5));
        Assert.Equal(["b"], (await store.Tasks.WaitingAsync(account, "f", after, 10, Cancel)).Select(t => t.TaskId));
    }

    [Fact]
    public async Task Live_tasks_are_those_that_are_not_final()
    {
        foreach (var status in Enum.GetValues<GpuTaskStatus>().Where(s => s != GpuTaskStatus.None))
        {
            await AddAsync($"t-{status}", At(1), status);
        }

        var live = Enum.GetValues<GpuTaskStatus>().Where(s => s != GpuTaskStatus.None && !s.IsFinal()).Select(s => $"t-{s}")
            .Order(StringComparer.Ordinal).ToList();
        Assert.Equal(live, await store.Tasks.LiveAsync(account, "f", null, null, 100, Cancel));
        Assert.Equal(live[..2], await store.Tasks.LiveAsync(account, "f", null, null, 2, Cancel));
        Assert.Equal(live[2..], await store.Tasks.LiveAsync(account, "f", null, live[1], 100, Cancel));
    }

    [Fact]
    public async Task Due_tasks_come_earliest_first_and_only_when_their_time_has_come()
    {
        // Long before every other test's tasks, so that those do not mix in.
        var then = new DateTimeOffset(2001, 1, 1, 0, 0, 0, TimeSpan.Zero).AddSeconds(account.GetHashCode(StringComparison.Ordinal) & 0xffff);
        await AddAsync("b", then, wakeAt: then.AddSeconds(2));
        await AddAsync("a", then, GpuTaskStatus.Running, wakeAt: then.AddSeconds(1));
        await AddAsync("c", then, wakeAt: then.AddSeconds(3));
        await AddAsync("never", then, GpuTaskStatus.Failed);
        var due = await store.Tasks.DueAsync(then.AddSeconds(2), 1000, Cancel);
        Assert.Equal(["a", "b"], due.Where(k => k.Account == account).Select(k => k.TaskId));
        Assert.Equal([new TaskKey(account, "f", "a")], await store.Tasks.DueAsync(then.AddSeconds(2), 1, Cancel));
        foreach (var id in (string[])["a", "b", "c"])
        {
            await RemoveAsync(id);
        }
    }

    [Fact]
    public async Task Functions_that_wait_are_named_once_each()
    {
        var other = Samples.NewAccount();
        for (var i = 0; i < 5; i++)
        {
            await AddAsync($"a{i}", At(i), function: "f1");
            await AddAsync($"b{i}", At(i), function: "f3");
            await AddAsync($"c{i}", At(i), function: "f1", account: other);
        }

        await AddAsync("d", At(1), GpuTaskStatus.Running, function: "f2");
        var waiting = (await store.Tasks.DefinitionsWaitingAsync(Cancel)).Where(k => k.StartsWith(account, StringComparison.Ordinal) || k.StartsWith(other, StringComparison.Ordinal));
        Assert.Equal(new[] { $"{account}/f1", $"{account}/f3", $"{other}/f1" }.Order(StringComparer.Ordinal), waiting);
    }

    [Fact]
    public async Task Each_version_has_a_queue_of_its_own()
    {
        await AddAsync("l", At(1));
        await AddAsync("a", At(2), version: "1", qualifier: "prod");
        await AddAsync("b", At(3), version: "12");
        await AddAsync("c", At(4), version: "1");
        Assert.Equal(["l"], await QueueAsync("f"));
        Assert.Equal(["a", "c"], await QueueAsync("f.1"));
        Assert.Equal(["b"], await QueueAsync("f.12"));
        Assert.Equal(["a", "b", "c", "l"], await store.Tasks.LiveAsync(account, "f", null, null, 10, Cancel));
        Assert.Equal(["a", "c"], await store.Tasks.LiveAsync(account, "f", "1", null, 10, Cancel));
        Assert.Equal(
            [$"{account}/f", $"{account}/f.1", $"{account}/f.12"],
            (await store.Tasks.DefinitionsWaitingAsync(Cancel)).Where(key => key.StartsWith(account, StringComparison.Ordinal)));
        Assert.Equal(4, (await ListAsync(new TaskQuery { Function = "f" })).Count);

        async Task<IEnumerable<string>> QueueAsync(string line) => (await store.Tasks.WaitingAsync(account, line, null, 10, Cancel)).Select(ticket => ticket.TaskId);
    }

    private static DateTimeOffset At(int second) => Samples.Noon.AddSeconds(second);

    private static long Ms(DateTimeOffset at) => at.ToUnixTimeMilliseconds();

    private async Task<List<string>> ListAsync(TaskQuery query)
    {
        var (tasks, _) = await store.Tasks.ListAsync(account, query, Cancel);
        return [.. tasks.Select(t => t.Key!.Value.TaskId)];
    }

    private Task AddAsync(
        string taskId,
        DateTimeOffset at,
        GpuTaskStatus status = GpuTaskStatus.Enqueued,
        string function = "f",
        string? account = null,
        string qualifier = "LATEST",
        bool recorded = true,
        int priority = 0,
        DateTimeOffset? wakeAt = null,
        string? version = null)
    {
        var key = new TaskKey(account ?? this.account, function, taskId);
        var state = Samples.Waiting(key, at, priority, qualifier, recorded) with { Status = status };
        state = state with { Submission = state.Submission! with { Version = version } };
        state = state with { WakeAt = wakeAt ?? (status.IsFinal() ? null : state.WakeAt) };
        return store.Storage.WriteStateAsync(StoreNames.Task, Id(key), new Stored<TaskState>(state));
    }

    private async Task RemoveAsync(string taskId)
    {
        var state = new Stored<TaskState>();
        var id = Id(new TaskKey(account, "f", taskId));
        await store.Storage.ReadStateAsync(StoreNames.Task, id, state);
        await store.Storage.ClearStateAsync(StoreNames.Task, id, state);
    }

    private static GrainId Id(TaskKey key) => GrainId.Create("task", key.ToString());
}
