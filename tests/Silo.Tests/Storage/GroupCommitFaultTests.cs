using GpuTasks.Storage;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;
using Orleans.Serialization.Invocation;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class GroupCommitFaultOnSqliteTests(GroupCommitFaultOnSqliteTests.ImpatientStore store)
    : GroupCommitFaultTests(store), IClassFixture<GroupCommitFaultOnSqliteTests.ImpatientStore>
{
    [Fact]
    public async Task While_another_process_holds_the_file_writes_are_refused_and_afterwards_go_on()
    {
        var state = await CreateAsync("a");
        await using (var connection = await Store.Database.DataSource.OpenConnectionAsync(Cancel))
        {
            await using var command = connection.CreateCommand();
            command.CommandText = "begin exclusive";
            await command.ExecuteNonQueryAsync(Cancel);
            try
            {
                var e = await Assert.ThrowsAsync<StoreUnavailableException>(() => UpdateAsync(state, s => s with { Attempt = 1 }));
                Assert.Contains("nothing of it was written", e.Message, StringComparison.Ordinal);
            }
            finally
            {
                command.CommandText = "rollback";
                await command.ExecuteNonQueryAsync(Cancel);
            }
        }

        // Nothing was written, so the same ETag still fits.
        await UpdateAsync(state, s => s with { Attempt = 2 });
        Assert.Equal(2, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_write_that_leaves_the_index_alone_does_not_touch_its_columns()
    {
        var state = await CreateAsync("a");
        await Store.Database.QueryAsync(
            "update grain_state set qualifier = 'marked' where account = @account", [("account", Account)], _ => 0, Cancel);
        await UpdateAsync(state, s => s with { ErrorMessage = "progress" });
        Assert.Equal("marked", await QualifierAsync());
        await UpdateAsync(state, s => s with { Status = GpuTaskStatus.Running });
        Assert.Equal("LATEST", await QualifierAsync());
    }

    [Fact]
    public async Task Another_activation_does_not_trust_what_this_one_wrote()
    {
        var mine = await CreateAsync("a");
        var other = await ReadAsync("a");
        await UpdateAsync(other, s => s with { Status = GpuTaskStatus.Running });
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(mine, s => s with { ErrorMessage = "stale" }));
        var again = await ReadAsync("a");
        await UpdateAsync(again, s => s with { Status = GpuTaskStatus.Enqueued });
        Assert.Equal(1, (await Store.Tasks.CountAsync(Account, "f", Cancel))[GpuTaskStatus.Enqueued]);
    }

    protected override string RefuseBad =>
        "create trigger refuse_bad before insert on grain_state when new.task_id = 'bad' begin select raise(abort, 'bad row'); end";

    private async Task<string> QualifierAsync() => Assert.Single(await Store.Database.QueryAsync(
        "select qualifier from grain_state where account = @account", [("account", Account)], r => r.GetString(0), Cancel));

    public sealed class ImpatientStore : SqliteStore
    {
        public override async Task<StoreOptions> CreateAsync()
        {
            var options = await base.CreateAsync();
            options.BusyTimeout = TimeSpan.FromMilliseconds(100);
            return options;
        }
    }
}

public sealed class GroupCommitFaultOnPostgreSqlTests(PostgreSqlStore store) : GroupCommitFaultTests(store), IClassFixture<PostgreSqlStore>
{
    [Fact]
    public async Task A_connection_cut_in_the_middle_of_a_flush_makes_the_grains_read_again_and_the_next_writes_go_on()
    {
        var states = await Task.WhenAll(Enumerable.Range(0, 5).Select(i => CreateAsync($"t{i}")));
        Task[] writes;
        await using (var connection = await Store.Database.DataSource.OpenConnectionAsync(Cancel))
        {
            await using var transaction = await connection.BeginTransactionAsync(Cancel);
            await using var command = connection.CreateCommand();
            command.CommandText = "select key from grain_state where account is not null for update";
            await command.ExecuteNonQueryAsync(Cancel);
            writes = [.. states.Select(s => UpdateAsync(s, t => t with { Attempt = 1 }))];
            await CutFlushAsync();
            await transaction.RollbackAsync(Cancel);
        }

        await Task.WhenAll(writes).ContinueWith(_ => { }, Cancel, TaskContinuationOptions.None, TaskScheduler.Default);
        foreach (var fault in writes.Select(write => write.Exception?.InnerException).OfType<Exception>())
        {
            var heard = AtTheCaller(fault);
            Assert.Equal((fault.GetType(), fault.Message, fault.InnerException?.Message), (heard.GetType(), heard.Message, heard.InnerException?.Message));
        }

        var outcomes = await Task.WhenAll(writes.Select(OutcomeAsync));
        Assert.Contains("unknown", outcomes);
        for (var i = 0; i < 5; i++)
        {
            var read = await ReadAsync($"t{i}");
            Assert.True(outcomes[i] != "written" || read.State.Attempt == 1);
            await UpdateAsync(read, t => t with { Attempt = 7 });
            Assert.Equal(7, (await ReadAsync($"t{i}")).State.Attempt);
        }
    }

    [Fact]
    public async Task A_fault_of_the_driver_reaches_the_caller_of_a_grain()
    {
        var fault = await Assert.ThrowsAsync<Npgsql.PostgresException>(() => Store.Database.QueryAsync("select 1 / 0", [], r => r.GetInt32(0), Cancel));
        var heard = AtTheCaller(fault);
        Assert.IsType<Npgsql.PostgresException>(heard);
        Assert.Contains("PostgresException", heard.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_that_takes_no_writes_refuses_them_and_afterwards_goes_on()
    {
        var state = await CreateAsync("a");
        var name = Assert.Single(await Store.Database.QueryAsync("select current_database()", [], r => r.GetString(0), Cancel));
        await PostgreSqlStore.ExecuteOnServerAsync($"alter database {name} set default_transaction_read_only = on");
        try
        {
            await CutIdleWriterAsync();
            await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(state, s => s with { Attempt = 1 }));
            await Assert.ThrowsAsync<StoreUnavailableException>(() => UpdateAsync(state, s => s with { Attempt = 1 }));
        }
        finally
        {
            await PostgreSqlStore.ExecuteOnServerAsync($"alter database {name} set default_transaction_read_only = off");
        }

        await CutIdleWriterAsync();
        await Assert.ThrowsAsync<InconsistentStateException>(() => UpdateAsync(state, s => s with { Attempt = 2 }));
        await UpdateAsync(state, s => s with { Attempt = 3 });
        Assert.Equal(3, (await ReadAsync("a")).State.Attempt);
    }

    [Fact]
    public async Task A_lone_update_of_a_bad_batch_keeps_its_index()
    {
        await RefuseBadAsync();
        var states = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => CreateAsync($"t{i}")));
        var bad = CreateAsync("bad");
        var good = states.Select(s => UpdateAsync(s, t => t with { Status = GpuTaskStatus.Running, RunStartedAt = Samples.Noon })).ToList();
        await Assert.ThrowsAsync<StoreUnavailableException>(() => bad);
        await Task.WhenAll(good);
        Assert.Equal(20, (await Store.Tasks.CountAsync(Account, "f", Cancel))[GpuTaskStatus.Running]);
        var (tasks, _) = await Store.Tasks.ListAsync(Account, new TaskQuery { Function = "f", Limit = 100, Status = GpuTaskStatus.Running }, Cancel);
        Assert.Equal(20, tasks.Count);
    }

    protected override string RefuseBad => "alter table grain_state add constraint refuse_bad check (task_id <> 'bad')";

    /// <summary>What a client is told when a grain throws this.</summary>
    private Exception AtTheCaller(Exception fault)
    {
        var sent = Store.Services.GetRequiredService<Serializer>().SerializeToArray(Response.FromException(fault));
        return Store.Client.ServiceProvider.GetRequiredService<Serializer>().Deserialize<Response>(sent)!.Exception!;
    }

    private async Task CutFlushAsync()
    {
        var deadline = DateTime.UtcNow.AddSeconds(20);
        while (DateTime.UtcNow < deadline)
        {
            var cut = await Store.Database.QueryAsync(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                + "where datname = current_database() and wait_event_type = 'Lock' and query like '%insert into grain_state%'",
                [],
                r => r.GetBoolean(0),
                Cancel);
            if (cut.Count > 0)
            {
                return;
            }

            await Task.Delay(10, Cancel);
        }

        Assert.Fail("No flush waits for the locked rows.");
    }

    /// <summary>Cuts every other connection to this database, so that the writer must open a new one.</summary>
    private async Task CutIdleWriterAsync() => await Store.Database.QueryAsync(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        + "where datname = current_database() and pid <> pg_backend_pid() and query like '%grain_state%'",
        [],
        r => r.GetBoolean(0),
        Cancel);

    private static async Task<string> OutcomeAsync(Task write)
    {
        try
        {
            await write;
            return "written";
        }
        catch (InconsistentStateException)
        {
            return "unknown";
        }
        catch (StoreUnavailableException)
        {
            return "refused";
        }
    }
}

public abstract class GroupCommitFaultTests
{
    protected GroupCommitFaultTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        Store = store;
    }

    protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    protected TestStore Store { get; }

    protected string Account { get; } = Samples.NewAccount();

    /// <summary>Makes the database refuse a row with the task id <c>bad</c>.</summary>
    protected abstract string RefuseBad { get; }

    [Fact]
    public async Task A_row_that_the_database_refuses_fails_one_grain()
    {
        await RefuseBadAsync();
        var good = Enumerable.Range(0, 40).Select(i => CreateAsync($"t{i}")).ToList();
        var bad = CreateAsync("bad");
        good.AddRange(Enumerable.Range(40, 40).Select(i => CreateAsync($"t{i}")));
        await Assert.ThrowsAsync<StoreUnavailableException>(() => bad);
        await Task.WhenAll(good);
        Assert.Equal(80, (await Store.Tasks.CountAsync(Account, "f", Cancel))[GpuTaskStatus.Enqueued]);
        Assert.False((await ReadAsync("bad")).RecordExists);
    }

    [Fact]
    public async Task Rows_written_alone_and_in_groups_are_each_others()
    {
        var plain = (IGrainStorage)Microsoft.Extensions.DependencyInjection.ServiceProviderKeyedServiceExtensions
            .GetRequiredKeyedService<IGrainStorage>(Store.Services, "store-plain");
        var state = await CreateAsync("a");
        state.State = state.State with { Attempt = 1 };
        await plain.WriteStateAsync(StoreNames.Task, Id("a"), state);
        await UpdateAsync(state, s => s with { Attempt = 2, Status = GpuTaskStatus.Running });
        Assert.Equal(2, (await ReadAsync("a")).State.Attempt);
        Assert.Equal(1, (await Store.Tasks.CountAsync(Account, "f", Cancel))[GpuTaskStatus.Running]);
    }

    [Theory]
    [InlineData("a\0b")]
    [InlineData("a<lone>")]
    public async Task Text_that_no_database_can_index_is_refused_before_it_meets_others(string qualifier)
    {
        var key = new TaskKey(Account, "f", "a");
        var state = new Stored<TaskState>(Samples.Waiting(key, qualifier: Samples.WithLoneSurrogate(qualifier)));
        await Assert.ThrowsAsync<ArgumentException>(() => Store.Storage.WriteStateAsync(StoreNames.Task, Id("a"), state));
    }

    [Fact]
    public async Task Mixed_flushes_answer_each_row_with_its_own_outcome()
    {
        var old = await Task.WhenAll(Enumerable.Range(0, 50).Select(i => CreateAsync($"old{i:00}")));
        var stale = await Task.WhenAll(Enumerable.Range(0, 50).Select(i => ReadAsync($"old{i:00}")));
        await Task.WhenAll(old.Where((_, i) => i % 2 == 0).Select(s => UpdateAsync(s, t => t with { Attempt = 1 })));

        var updates = stale.Select(s => UpdateAsync(s, t => t with { Attempt = 2 })).ToArray();
        var creates = Enumerable.Range(0, 50).Select(i => CreateAsync(i % 2 == 0 ? $"new{i:00}" : $"old{i:00}")).ToArray();
        for (var i = 0; i < 50; i++)
        {
            if (i % 2 == 0)
            {
                await Assert.ThrowsAsync<InconsistentStateException>(() => updates[i]);
                await creates[i];
            }
            else
            {
                await updates[i];
                await Assert.ThrowsAsync<InconsistentStateException>(() => creates[i]);
            }
        }

        for (var i = 0; i < 50; i++)
        {
            Assert.Equal(i % 2 == 0 ? 1 : 2, (await ReadAsync($"old{i:00}")).State.Attempt);
        }
    }

    protected Orleans.Runtime.GrainId Id(string taskId) => Orleans.Runtime.GrainId.Create("task", new TaskKey(Account, "f", taskId).ToString());

    private protected async Task<Stored<TaskState>> ReadAsync(string taskId)
    {
        var state = new Stored<TaskState>();
        await Store.Storage.ReadStateAsync(StoreNames.Task, Id(taskId), state);
        return state;
    }

    private protected async Task<Stored<TaskState>> CreateAsync(string taskId)
    {
        var state = new Stored<TaskState>(Samples.Waiting(new TaskKey(Account, "f", taskId)));
        await Store.Storage.WriteStateAsync(StoreNames.Task, Id(taskId), state);
        return state;
    }

    private protected Task UpdateAsync(Stored<TaskState> state, Func<TaskState, TaskState> change)
    {
        state.State = change(state.State);
        return Store.Storage.WriteStateAsync(StoreNames.Task, Id(state.State.Key!.Value.TaskId), state);
    }

    protected async Task RefuseBadAsync()
    {
        if (!refuses)
        {
            refuses = true;
            try
            {
                await Store.Database.QueryAsync(RefuseBad, [], _ => 0, Cancel);
            }
            catch (System.Data.Common.DbException e) when (e.Message.Contains("already exists", StringComparison.Ordinal))
            {
                // Another test of this class was first.
            }
        }
    }

    private bool refuses;
}
