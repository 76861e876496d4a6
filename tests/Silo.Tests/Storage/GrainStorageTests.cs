using GpuTasks.Storage;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class GrainStorageOnSqliteTests(SqliteStore store) : GrainStorageTests(store), IClassFixture<SqliteStore>;

public sealed class GrainStorageOnPostgreSqlTests(PostgreSqlStore store) : GrainStorageTests(store), IClassFixture<PostgreSqlStore>;

public sealed class PlainGrainStorageOnSqliteTests(PlainSqliteStore store) : GrainStorageTests(store), IClassFixture<PlainSqliteStore>;

public sealed class PlainGrainStorageOnPostgreSqlTests(PlainPostgreSqlStore store) : GrainStorageTests(store), IClassFixture<PlainPostgreSqlStore>;

public abstract class GrainStorageTests
{
    private readonly TestStore store;
    private readonly string account = Samples.NewAccount();

    protected GrainStorageTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_row_that_was_never_written_reads_as_an_empty_state()
    {
        var state = await ReadAsync("a");
        Assert.False(state.RecordExists);
        Assert.Null(state.ETag);
        Assert.Null(state.State.Key);
    }

    [Fact]
    public async Task What_was_written_is_read_back()
    {
        var key = new TaskKey(account, "f", "a");
        var written = new Stored<TaskState>(Samples.FullTask() with { Key = key });
        await store.Storage.WriteStateAsync(StoreNames.Task, Id("a"), written);
        var read = await ReadAsync("a");
        Assert.True(read.RecordExists);
        Assert.Equal(written.ETag, read.ETag);
        Assert.Equal(written.State.ErrorMessage, read.State.ErrorMessage);
        Assert.Equal(written.State.Slot, read.State.Slot);
        Assert.Equal(written.State.Events, read.State.Events);
        Assert.Equal(written.State.Result, read.State.Result);
    }

    [Fact]
    public async Task Every_write_makes_a_new_etag()
    {
        var state = await CreateAsync("a");
        var first = state.ETag;
        await UpdateAsync(state, s => s with { Attempt = 1 });
        Assert.NotEqual(first, state.ETag);
        Assert.Equal(1, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_write_with_a_stale_etag_is_refused_and_changes_nothing()
    {
        var mine = await CreateAsync("a");
        var other = await ReadAsync("a");
        await UpdateAsync(other, s => s with { Attempt = 5 });
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(mine, s => s with { Attempt = 9 }));
        Assert.Equal(5, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_second_first_write_is_refused_and_changes_nothing()
    {
        await CreateAsync("a");
        var late = new Stored<TaskState>(Samples.Waiting(new TaskKey(account, "f", "a")) with { Attempt = 9 });
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.Storage.WriteStateAsync(StoreNames.Task, Id("a"), late));
        Assert.Equal(0, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task Of_many_first_writes_at_once_one_wins()
    {
        var writes = Enumerable.Range(1, 20).Select(async i =>
        {
            var state = new Stored<TaskState>(Samples.Waiting(new TaskKey(account, "f", "a")) with { Attempt = i });
            try
            {
                await store.Storage.WriteStateAsync(StoreNames.Task, Id("a"), state);
                return i;
            }
            catch (InconsistentStateException)
            {
                return 0;
            }
        });
        var winner = Assert.Single(await Task.WhenAll(writes), i => i != 0);
        Assert.Equal(winner, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_cleared_row_is_gone_and_can_be_made_again()
    {
        var state = await CreateAsync("a");
        await store.Storage.ClearStateAsync(StoreNames.Task, Id("a"), state);
        Assert.False(state.RecordExists);
        Assert.False((await ReadAsync("a")).RecordExists);
        Assert.Empty(await RowsAsync());

        var again = await CreateAsync("a");
        Assert.True((await ReadAsync("a")).RecordExists);
        Assert.True(again.RecordExists);
    }

    [Fact]
    public async Task The_grain_that_cleared_its_row_can_write_it_again()
    {
        var state = await CreateAsync("a");
        await store.Storage.ClearStateAsync(StoreNames.Task, Id("a"), state);
        state.State = Samples.Waiting(new TaskKey(account, "f", "a"));
        await store.Storage.WriteStateAsync(StoreNames.Task, Id("a"), state);
        await UpdateAsync(state, s => s with { Attempt = 2 });
        Assert.Equal(2, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_stale_clear_is_refused()
    {
        var mine = await CreateAsync("a");
        await UpdateAsync(await ReadAsync("a"), s => s with { Attempt = 5 });
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.Storage.ClearStateAsync(StoreNames.Task, Id("a"), mine));
        Assert.Equal(5, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_row_deleted_underneath_is_not_brought_back()
    {
        var mine = await CreateAsync("a");
        await store.Storage.ClearStateAsync(StoreNames.Task, Id("a"), await ReadAsync("a"));
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(mine, s => s with { Attempt = 9 }));
        Assert.False((await ReadAsync("a")).RecordExists);
    }

    [Fact]
    public async Task An_activation_that_slept_through_deletion_and_rebirth_of_its_row_is_refused()
    {
        var old = await CreateAsync("a");
        await store.Storage.ClearStateAsync(StoreNames.Task, Id("a"), await ReadAsync("a"));
        await CreateAsync("a");
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(old, s => s with { Attempt = 9 }));
        Assert.Equal(0, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_row_deleted_underneath_fails_no_other_row()
    {
        var gone = await CreateAsync("gone");
        var others = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => CreateAsync($"t{i}")));
        await store.Storage.ClearStateAsync(StoreNames.Task, Id("gone"), await ReadAsync("gone"));
        var writes = others.Select(o => UpdateAsync(o, s => s with { Attempt = 1 })).ToList();
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(gone, s => s with { Attempt = 9 }));
        await Task.WhenAll(writes);
        Assert.False((await ReadAsync("gone")).RecordExists);
        Assert.Equal(20, (await RowsAsync()).Count);
    }

    [Fact]
    public async Task The_index_follows_the_state()
    {
        var state = await CreateAsync("a");
        Assert.Equal(
            (account, "f", "a", "LATEST", "Enqueued", true, 0L, Ms(Samples.Noon), (long?)null, (long?)null, Ms(Samples.Noon.AddDays(1))),
            Assert.Single(await RowsAsync()));

        await UpdateAsync(state, s => s with
        {
            Status = GpuTaskStatus.Succeeded,
            RunStartedAt = Samples.Noon.AddSeconds(1),
            EndedAt = Samples.Noon.AddSeconds(2),
            WakeAt = null,
        });
        Assert.Equal(
            (account, "f", "a", "LATEST", "Succeeded", true, 0L, Ms(Samples.Noon), Ms(Samples.Noon.AddSeconds(1)), Ms(Samples.Noon.AddSeconds(2)), (long?)null),
            Assert.Single(await RowsAsync()));
    }

    [Fact]
    public async Task An_update_that_leaves_the_index_alone_keeps_it()
    {
        var state = await CreateAsync("a");
        var before = Assert.Single(await RowsAsync());
        await UpdateAsync(state, s => s with { ErrorMessage = "progress" });
        await UpdateAsync(state, s => s with { ErrorMessage = "more" });
        Assert.Equal(before, Assert.Single(await RowsAsync()));
        Assert.Equal("more", (await ReadAsync("a")).State.ErrorMessage);
    }

    [Fact]
    public async Task A_state_without_an_index_is_stored_too()
    {
        var id = GrainId.Create("note", account);
        var state = new Stored<Note>(new Note("first", null));
        await store.Storage.WriteStateAsync("note", id, state);
        state.State = new Note("second", [1, 2]);
        await store.Storage.WriteStateAsync("note", id, state);
        var read = new Stored<Note>();
        await store.Storage.ReadStateAsync("note", id, read);
        Assert.Equal(("second", 2), (read.State.Text, read.State.Bytes!.Length));
    }

    [Theory]
    [InlineData("7f")]
    [InlineData("0c0ffee0c0ffee0c0ffee0c0ffee0c0f")]
    [InlineData("with+plus")]
    [InlineData("gpu-1")]
    public async Task Any_form_of_key_keeps_its_own_row(string key)
    {
        var id = GrainId.Create("note", key);
        var state = new Stored<Note>();
        await store.Storage.ReadStateAsync(account, id, state);
        Assert.False(state.RecordExists);
        state.State = new Note(key, null);
        await store.Storage.WriteStateAsync(account, id, state);
        await store.Storage.WriteStateAsync(account, id, state);
        var read = new Stored<Note>();
        await store.Storage.ReadStateAsync(account, id, read);
        Assert.Equal((key, state.ETag), (read.State.Text, read.ETag));
    }

    [Fact]
    public async Task A_large_state_is_stored()
    {
        var state = await CreateAsync("a");
        var result = new byte[1 << 20];
        new Random(1).NextBytes(result);
        await UpdateAsync(state, s => s with { Result = result, Status = GpuTaskStatus.Succeeded });
        Assert.Equal(result, (await ReadAsync("a")).State.Result);
        Assert.Equal("Succeeded", Assert.Single(await RowsAsync()).Item5);
    }

    [Fact]
    public async Task Large_parts_stand_beside_the_row_and_are_written_once()
    {
        var state = await CreateAsync("a");
        var (payload, result) = (Bytes(100_000), Bytes(40_000));
        await UpdateAsync(state, s => s with { Submission = s.Submission! with { Payload = payload } });
        await UpdateAsync(state, s => s with { Status = GpuTaskStatus.Running });
        var one = Assert.Single(await BlobsAsync("a"));
        await UpdateAsync(state, s => s with { Status = GpuTaskStatus.Succeeded, Result = result });
        var blobs = await BlobsAsync("a");
        Assert.Equal([40_000, 100_000], blobs.Values.Order());
        Assert.Contains(one.Key, blobs);
        Assert.True(Assert.Single(await RowLengthsAsync()) < 10_000);

        var read = await ReadAsync("a");
        Assert.Equal(payload, read.State.Submission!.Payload);
        Assert.Equal(result, read.State.Result);
        await UpdateAsync(read, s => s with { Attempt = 5 });
        Assert.Equal(blobs, await BlobsAsync("a"));
        Assert.Equal(result, (await ReadAsync("a")).State.Result);

        var (listed, _) = await store.Tasks.ListAsync(account, new TaskQuery { Function = "f", IncludePayload = true }, Cancel);
        Assert.Equal(payload, Assert.Single(listed).Submission!.Payload);
        Assert.Equal(result, listed[0].Result);
    }

    [Fact]
    public async Task A_refused_row_leaves_the_payload_of_the_first_alone()
    {
        var first = await CreateLargeAsync("a", 1);
        await Assert.ThrowsAsync<InconsistentStateException>(() => CreateLargeAsync("a", 2));
        Assert.Equal(first, (await ReadAsync("a")).State.Submission!.Payload);
        Assert.True(store.Options.GroupCommit is false || (await BlobsAsync("a")).Count == 1);
    }

    [Fact]
    public async Task What_an_earlier_version_stored_in_the_row_is_read_and_moves_out_with_the_next_change()
    {
        await CreateLargeAsync("a", 1);
        var whole = await ReadAsync("a");
        await store.Database.QueryAsync("delete from grain_blob where key = @key", [("key", Id("a").Key.ToString()!)], _ => 0, Cancel);
        await store.Database.QueryAsync(
            "update grain_state set payload = @payload where key = @key",
            [("key", Id("a").Key.ToString()!), ("payload", new SystemTextJsonStorageSerializer().Serialize(whole.State).ToArray())],
            _ => 0,
            Cancel);
        var read = await ReadAsync("a");
        Assert.Equal(whole.State.Submission!.Payload, read.State.Submission!.Payload);
        await UpdateAsync(read, s => s with { Status = GpuTaskStatus.Running });
        Assert.Single(await BlobsAsync("a"));
        Assert.Equal(whole.State.Submission!.Payload, (await ReadAsync("a")).State.Submission!.Payload);
    }

    [Fact]
    public async Task Many_rows_at_once_are_all_stored()
    {
        var states = await Task.WhenAll(Enumerable.Range(0, 300).Select(i => CreateAsync($"t{i}")));
        await Task.WhenAll(states.Select((s, i) => UpdateAsync(s, t => t with { Attempt = i, Status = GpuTaskStatus.Running })));
        var rows = await RowsAsync();
        Assert.Equal(300, rows.Count);
        Assert.All(rows, r => Assert.Equal("Running", r.Item5));
        Assert.Equal(299, (await ReadAsync("t299")).State.Attempt);
    }

    private static byte[] Bytes(int length, int seed = 1)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private async Task<byte[]> CreateLargeAsync(string taskId, int seed)
    {
        var state = Samples.Waiting(new TaskKey(account, "f", taskId));
        var payload = Bytes(50_000, seed);
        await store.Storage.WriteStateAsync(StoreNames.Task, Id(taskId), new Stored<TaskState>(state with { Submission = state.Submission! with { Payload = payload } }));
        return payload;
    }

    private async Task<Dictionary<string, long>> BlobsAsync(string taskId) => (await store.Database.QueryAsync(
        "select id, length(data) from grain_blob where key = @key",
        [("key", Id(taskId).Key.ToString()!)],
        r => (r.GetString(0), r.GetInt64(1)),
        Cancel)).ToDictionary();

    private Task<List<long>> RowLengthsAsync() => store.Database.QueryAsync(
        "select length(payload) from grain_state where account = @account", [("account", account)], r => r.GetInt64(0), Cancel);

    private static long? Ms(DateTimeOffset at) => at.ToUnixTimeMilliseconds();

    private GrainId Id(string taskId) => GrainId.Create("task", new TaskKey(account, "f", taskId).ToString());

    private async Task<Stored<TaskState>> ReadAsync(string taskId)
    {
        var state = new Stored<TaskState>();
        await store.Storage.ReadStateAsync(StoreNames.Task, Id(taskId), state);
        return state;
    }

    private async Task<Stored<TaskState>> CreateAsync(string taskId)
    {
        var state = new Stored<TaskState>(Samples.Waiting(new TaskKey(account, "f", taskId)));
        await store.Storage.WriteStateAsync(StoreNames.Task, Id(taskId), state);
        return state;
    }

    private Task UpdateAsync(Stored<TaskState> state, Func<TaskState, TaskState> change)
    {
        var taskId = state.State.Key!.Value.TaskId;
        state.State = change(state.State);
        return store.Storage.WriteStateAsync(StoreNames.Task, Id(taskId), state);
    }

    private Task<List<(string, string, string, string, string, bool, long, long?, long?, long?, long?)>> RowsAsync() => store.Database.QueryAsync(
        "select account, function, task_id, qualifier, status, listed, priority, enqueued_at, started_at, ended_at, wake_at "
        + "from grain_state where account = @account order by task_id",
        [("account", account)],
        r => (
            r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), r.GetString(4), r.GetInt64(5) == 1, r.GetInt64(6),
            Time(r, 7), Time(r, 8), Time(r, 9), Time(r, 10)),
        Cancel);

    private static long? Time(System.Data.Common.DbDataReader r, int i) => r.IsDBNull(i) ? null : r.GetInt64(i);

    public sealed record Note(string Text, byte[]? Bytes)
    {
        public Note()
            : this("", null)
        {
        }
    }
}
