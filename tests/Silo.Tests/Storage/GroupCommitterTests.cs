using GpuTasks.Storage;
using GpuTasks.Store;
using Microsoft.Extensions.Logging.Abstractions;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class GroupCommitterTests : IDisposable
{
    private readonly FakeSink sink = new();
    private GroupCommitter? committer;

    public void Dispose()
    {
        sink.Gate.Set();
        committer?.Dispose();
        sink.Dispose();
    }

    [Fact]
    public async Task A_lone_write_is_committed_at_once()
    {
        Start();
        Assert.Equal(1, await WriteAsync("a"));
        Assert.Equal(["a"], Assert.Single(sink.Flushes));
    }

    [Fact]
    public async Task Writes_that_come_during_a_flush_go_together_in_the_next()
    {
        Start();
        var first = await HoldFlushAsync("a");
        var rest = new[] { "b", "c", "d" }.Select(k => WriteAsync(k)).ToArray();
        sink.Gate.Set();
        await first;
        await Task.WhenAll(rest);
        Assert.Equal([["a"], ["b", "c", "d"]], sink.Flushes);
    }

    [Fact]
    public async Task A_flush_takes_no_more_rows_than_allowed()
    {
        Start(o => o.GroupCommitRows = 2);
        var first = await HoldFlushAsync("a");
        var rest = new[] { "b", "c", "d" }.Select(k => WriteAsync(k)).ToArray();
        sink.Gate.Set();
        await first;
        await Task.WhenAll(rest);
        Assert.Equal([["a"], ["b", "c"], ["d"]], sink.Flushes);
    }

    [Fact]
    public async Task A_second_write_of_a_row_waits_for_the_next_flush_and_keeps_its_order()
    {
        Start();
        var first = await HoldFlushAsync("x");
        var writes = new[] { "a", "b", "a", "a", "c" }.Select((k, i) => WriteAsync(k, i)).ToArray();
        sink.Gate.Set();
        await first;
        await Task.WhenAll(writes);
        Assert.Equal([["x"], ["a", "b", "c"], ["a"], ["a"]], sink.Flushes);
        Assert.Equal([0, 2, 3], sink.Versions["a"]);
    }

    [Fact]
    public async Task Rows_of_one_key_but_of_two_kinds_go_together()
    {
        Start();
        var first = await HoldFlushAsync("x");
        var writes = new[] { WriteAsync("a"), WriteAsync("a", kind: "other") };
        sink.Gate.Set();
        await first;
        await Task.WhenAll(writes);
        Assert.Equal([["x"], ["a", "a"]], sink.Flushes);
    }

    [Fact]
    public async Task A_bad_row_fails_only_its_own_write()
    {
        Start();
        sink.Fault = row => row.Key == "bad" ? WriteFault.Row : null;
        var first = await HoldFlushAsync("x");
        var good = new[] { WriteAsync("a"), WriteAsync("b") };
        var bad = WriteAsync("bad");
        sink.Gate.Set();
        await first;
        Assert.Equal([1, 1], await Task.WhenAll(good));
        await Assert.ThrowsAsync<StoreUnavailableException>(() => bad);
        Assert.Equal(1, await WriteAsync("c"));
    }

    [Fact]
    public async Task A_version_conflict_is_answered_to_its_own_write_only()
    {
        Start();
        sink.Conflicts.Add("b");
        var first = await HoldFlushAsync("x");
        var writes = new[] { WriteAsync("a"), WriteAsync("b"), WriteAsync("c") };
        sink.Gate.Set();
        await first;
        Assert.Equal([1, null, 1], await Task.WhenAll(writes));
    }

    [Fact]
    public async Task An_unknown_outcome_makes_every_grain_of_the_flush_read_again()
    {
        Start();
        var first = await HoldFlushAsync("x");
        sink.Fault = _ => WriteFault.Unknown;
        var writes = new[] { WriteAsync("a"), WriteAsync("b") };
        sink.Gate.Set();
        await Assert.ThrowsAsync<InconsistentStateException>(() => first);
        foreach (var write in writes)
        {
            await Assert.ThrowsAsync<InconsistentStateException>(() => write);
        }

        sink.Fault = _ => null;
        Assert.Equal(1, await WriteAsync("a"));
    }

    [Fact]
    public async Task A_database_that_refuses_everything_is_not_asked_row_by_row()
    {
        Start();
        var first = await HoldFlushAsync("x");
        sink.Fault = _ => WriteFault.Database;
        var writes = Enumerable.Range(0, 50).Select(i => WriteAsync($"t{i}")).ToArray();
        sink.Gate.Set();
        await Assert.ThrowsAsync<StoreUnavailableException>(() => first);
        foreach (var write in writes)
        {
            await Assert.ThrowsAsync<StoreUnavailableException>(() => write);
        }

        Assert.Equal(2, sink.Attempts);
    }

    [Fact]
    public async Task When_the_connection_breaks_between_single_rows_only_that_row_is_unknown()
    {
        Start();
        sink.Fault = row => row.Key switch
        {
            "b" => sink.Alone ? WriteFault.Unknown : WriteFault.Row,
            _ => null,
        };
        var first = await HoldFlushAsync("x");
        var writes = new[] { WriteAsync("a"), WriteAsync("b"), WriteAsync("c") };
        sink.Gate.Set();
        await first;
        Assert.Equal(1, await writes[0]);
        await Assert.ThrowsAsync<InconsistentStateException>(() => writes[1]);
        await Assert.ThrowsAsync<StoreUnavailableException>(() => writes[2]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task After_the_nth_write_failed_the_others_go_on(int n)
    {
        Start();
        var count = 0;
        sink.Fault = _ => ++count == n ? WriteFault.Database : null;
        for (var i = 1; i <= 4; i++)
        {
            if (i == n)
            {
                await Assert.ThrowsAsync<StoreUnavailableException>(() => WriteAsync("a"));
            }
            else
            {
                Assert.Equal(1, await WriteAsync("a"));
            }
        }
    }

    [Fact]
    public async Task A_full_queue_makes_writes_wait_and_then_refuses_them()
    {
        Start(o => (o.GroupCommitQueue, o.WritePatience) = (2, TimeSpan.FromMilliseconds(50)));
        var first = await HoldFlushAsync("x");
        var taken = new[] { WriteAsync("a"), WriteAsync("b") };
        var e = await Assert.ThrowsAsync<StoreUnavailableException>(() => WriteAsync("c"));
        Assert.Contains("nothing was written", e.Message, StringComparison.Ordinal);
        sink.Gate.Set();
        await first;
        await Task.WhenAll(taken);
        Assert.Equal(1, await WriteAsync("c"));
        Assert.DoesNotContain(sink.Flushes.SkipLast(1), f => f.Contains("c"));
    }

    [Fact]
    public async Task A_writer_that_waits_for_a_place_gets_it_when_one_comes_free()
    {
        Start(o => o.GroupCommitQueue = 1);
        var first = await HoldFlushAsync("x");
        var writes = Enumerable.Range(0, 10).Select(i => WriteAsync($"t{i}")).ToArray();
        sink.Gate.Set();
        await first;
        Assert.All(await Task.WhenAll(writes), v => Assert.Equal(1, v));
    }

    [Fact]
    public async Task A_group_is_told_once_and_each_of_its_rows_has_its_own_end()
    {
        Start(o => o.GroupCommitRows = 4);
        sink.Conflicts.Add("c");
        sink.Fault = row => row.Key == "bad" ? WriteFault.Row : null;
        var first = await HoldFlushAsync("x");
        var (rows, group) = await EnqueueGroupAsync("a", "b", "c", "bad", "a", "d");
        Assert.False(group.IsCompleted);
        sink.Gate.Set();
        await first;
        await group.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        Assert.Equal([1, 1, null, null, 1, 1], rows.Select(row => row.NewVersion));
        Assert.Equal(["bad"], rows.Where(row => row.Fault is not null).Select(row => row.Key));
        Assert.IsType<StoreUnavailableException>(rows[3].Fault);
    }

    [Fact]
    public async Task A_group_that_finds_no_place_is_refused_as_a_whole_after_one_patience()
    {
        Start(o => (o.GroupCommitQueue, o.WritePatience) = (2, TimeSpan.FromMilliseconds(200)));
        var first = await HoldFlushAsync("x");
        var began = TimeProvider.System.GetTimestamp();
        var (rows, group) = await EnqueueGroupAsync([.. Enumerable.Range(0, 100).Select(i => $"t{i}")]);
        Assert.True(TimeProvider.System.GetElapsedTime(began) < TimeSpan.FromSeconds(10));
        Assert.All(rows.Skip(2), row => Assert.IsType<StoreUnavailableException>(row.Fault));
        sink.Gate.Set();
        await first;
        await group.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        Assert.Equal([1, 1], rows.Take(2).Select(row => row.NewVersion));
        Assert.DoesNotContain(sink.Flushes, flush => flush.Contains("t2"));
    }

    [Fact]
    public async Task Stopping_commits_what_was_taken_and_refuses_the_rest()
    {
        Start();
        var first = await HoldFlushAsync("x");
        var taken = Enumerable.Range(0, 30).Select(i => WriteAsync($"t{i % 20}")).ToArray();
        var stop = Task.Run(committer!.Dispose, TestContext.Current.CancellationToken);
        sink.Gate.Set();
        await stop;
        Assert.Equal(1, await first);
        Assert.All(await Task.WhenAll(taken), v => Assert.Equal(1, v));
        await Assert.ThrowsAsync<StoreUnavailableException>(() => WriteAsync("late"));
        Assert.True(sink.Disposed);
    }

    private void Start(Action<StoreOptions>? configure = null)
    {
        var options = new StoreOptions();
        configure?.Invoke(options);
        committer = new GroupCommitter(sink, options, NullLogger<GroupCommitter>.Instance);
    }

    /// <summary>Begins a flush of one row and returns once the writer is inside it; it stays there until the gate opens.</summary>
    private async Task<Task<int?>> HoldFlushAsync(string key)
    {
        sink.Gate.Reset();
        var write = WriteAsync(key);
        await sink.Entered.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        return write;
    }

    private async Task<(List<RowWrite> Rows, Task Group)> EnqueueGroupAsync(params string[] keys)
    {
        var group = new RowGroup(keys.Length);
        var rows = keys.Select(key => new RowWrite("task", key, null, [1], null, false, group: group)).ToList();
        await committer!.EnqueueAsync(rows);
        return (rows, group.Done);
    }

    private async Task<int?> WriteAsync(string key, int? version = null, string kind = "task") =>
        await await committer!.EnqueueAsync(new RowWrite(kind, key, version, [1], null, false), CancellationToken.None);

    private sealed class FakeSink : IRowSink
    {
        public ManualResetEventSlim Gate { get; } = new(true);

        public SemaphoreSlim Entered { get; } = new(0);

        public List<string[]> Flushes { get; } = [];

        public Dictionary<string, List<int?>> Versions { get; } = [];

        public HashSet<string> Conflicts { get; } = [];

        public Func<RowWrite, WriteFault?> Fault { get; set; } = _ => null;

        public bool Alone { get; private set; }

        public int Attempts { get; private set; }

        public bool Disposed { get; private set; }

        public int?[] Write(IReadOnlyList<RowWrite> rows)
        {
            Alone = false;
            if (!Gate.IsSet)
            {
                Entered.Release();
                Gate.Wait();
            }

            return Commit(rows);
        }

        public int? Write(RowWrite row)
        {
            Alone = true;
            return Commit([row])[0];
        }

        public void Dispose()
        {
            Disposed = true;
            Gate.Dispose();
            Entered.Dispose();
        }

        private int?[] Commit(IReadOnlyList<RowWrite> rows)
        {
            Attempts++;
            foreach (var row in rows)
            {
                if (Fault(row) is { } fault)
                {
                    throw new RowSinkException(fault, new InvalidOperationException(row.Key));
                }
            }

            Flushes.Add([.. rows.Select(r => r.Key)]);
            foreach (var row in rows)
            {
                if (!Versions.TryGetValue(row.Key, out var versions))
                {
                    Versions[row.Key] = versions = [];
                }

                versions.Add(row.Version);
            }

            return [.. rows.Select(r => Conflicts.Contains(r.Key) ? (int?)null : 1)];
        }
    }
}
