using GpuTasks.Storage;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;

namespace GpuTasks.Tests.Storage;

public sealed class StoreMigratorOnSqliteTests : StoreMigratorTests
{
    public StoreMigratorOnSqliteTests()
        : base(new SqliteStore())
    {
    }
}

public sealed class StoreMigratorOnPostgreSqlTests : StoreMigratorTests
{
    public StoreMigratorOnPostgreSqlTests()
        : base(new PostgreSqlStore())
    {
    }

    [Fact]
    public async Task A_database_that_takes_no_callers_yet_is_waited_for()
    {
        var name = new NpgsqlConnectionStringBuilder(Options.ConnectionString).Database;
        await PostgreSqlStore.ExecuteOnServerAsync($"alter database {name} with allow_connections false");
        var start = MigrateAsync(Scripts);
        await Task.Delay(TimeSpan.FromSeconds(1), Cancel);
        Assert.False(start.IsCompleted);
        await PostgreSqlStore.ExecuteOnServerAsync($"alter database {name} with allow_connections true");
        await start;
        Assert.Equal(Scripts.Select(s => s.Number), await NumbersAsync());
    }

    [Fact]
    public async Task A_password_that_is_wrong_is_told_at_once()
    {
        var wrong = new NpgsqlConnectionStringBuilder(Options.ConnectionString) { Password = "wrong" };
        await using var closed = new StoreDatabase(new StoreOptions { Provider = StoreProvider.PostgreSql, ConnectionString = wrong.ToString() });
        var e = await Assert.ThrowsAsync<PostgresException>(
            () => new StoreMigrator(closed, Scripts, NullLogger<StoreMigrator>.Instance).MigrateAsync("s", Cancel));
        Assert.Equal(PostgresErrorCodes.InvalidPassword, e.SqlState);
    }
}

public abstract class StoreMigratorTests(TestStore store) : IAsyncLifetime
{
    private StoreDatabase? database;

    protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    protected StoreOptions Options => database!.Options;

    private protected IReadOnlyList<StoreScript> Scripts => StoreScript.For(database!.Provider);

    public async ValueTask InitializeAsync()
    {
        if (store.Missing is null)
        {
            database = new StoreDatabase(await store.CreateAsync());
        }

        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
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
    public async Task A_new_database_gets_every_step_and_every_query()
    {
        await MigrateAsync(Scripts);
        Assert.Equal(Scripts.Select(s => s.Number), await NumbersAsync());
        Assert.Equal(20, Scripts.SelectMany(s => s.Queries.Keys).Distinct().Count());
        Assert.Equal(20, (await ReadAsync("select count(*) from OrleansQuery"))[0]);
    }

    [Fact]
    public async Task A_second_start_changes_nothing()
    {
        await MigrateAsync(Scripts);
        var before = await ReadAsync("select applied_at from store_version order by number");
        await MigrateAsync(Scripts);
        Assert.Equal(before, await ReadAsync("select applied_at from store_version order by number"));
    }

    [Fact]
    public async Task Processes_that_start_at_once_apply_each_step_once()
    {
        await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
        {
            await using var own = new StoreDatabase(database!.Options);
            await new StoreMigrator(own, Scripts, NullLogger<StoreMigrator>.Instance).MigrateAsync("s", Cancel);
        })));
        Assert.Equal(Scripts.Select(s => s.Number), await NumbersAsync());
    }

    [Fact]
    public async Task A_later_version_adds_its_steps_and_replaces_queries()
    {
        await MigrateAsync(Scripts);
        var next = StoreScript.Parse("9001_next.sql", "create table more (x int);\n-- @query ReadReminderRowKey\nselect 'new'\n");
        await MigrateAsync([.. Scripts, next]);
        Assert.Equal(9001, (await NumbersAsync())[^1]);
        Assert.Equal("select 'new'", (await database!.QueryAsync(
            "select QueryText from OrleansQuery where QueryKey = 'ReadReminderRowKey'", [], r => r.GetString(0), Cancel))[0]);
    }

    [Fact]
    public async Task Tasks_that_waited_before_there_were_versions_wait_in_the_queue_of_latest()
    {
        await MigrateAsync([.. Scripts.TakeWhile(script => script.Name != "0005_versions.sql")]);
        await ReadAsync("""
            insert into grain_state (key, kind, n0, n1, service, version, account, function, task_id, qualifier, status, listed, priority, enqueued_at)
            values ('a/f/t1', 'task', 0, 0, 's', 1, 'a', 'f', 't1', 'LATEST', 'Enqueued', 1, 0, 1000),
                ('a/f/t2', 'task', 0, 0, 's', 1, 'a', 'f', 't2', 'LATEST', 'Enqueued', 1, 3, 2000) returning n0
            """);
        await MigrateAsync(Scripts);
        List<(string, object)> queue = [("account", "a"), ("line", "f"), ("limit", 10)];
        Assert.Equal(["t2", "t1"], await database!.QueryAsync(TaskIndex.WaitingText(goesOn: false), queue, r => r.GetString(0), Cancel));
        var definitions = database.Provider == StoreProvider.Sqlite ? TaskIndex.DefinitionsWaitingSqlite : TaskIndex.DefinitionsWaitingPostgreSql;
        Assert.Equal(["f"], await database.QueryAsync(definitions, [], r => r.GetString(1), Cancel));
    }

    [Fact]
    public async Task A_step_that_fails_leaves_nothing_behind()
    {
        var broken = StoreScript.Parse("9001_broken.sql", "create table more (x int); insert into nowhere values (1);");
        await Assert.ThrowsAnyAsync<Exception>(() => MigrateAsync([.. Scripts, broken]));
        await Assert.ThrowsAnyAsync<System.Data.Common.DbException>(() => ReadAsync("select number from store_version"));
        await MigrateAsync(Scripts);
        Assert.Equal(Scripts.Select(s => s.Number), await NumbersAsync());
    }

    [Fact]
    public async Task A_database_of_a_newer_program_is_refused()
    {
        await MigrateAsync([.. Scripts, StoreScript.Parse("9001_next.sql", "create table more (x int);")]);
        var e = await Assert.ThrowsAsync<StoreVersionException>(() => MigrateAsync(Scripts));
        Assert.Contains("9001_next.sql", e.Message, StringComparison.Ordinal);
        Assert.Contains("newer", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_step_that_was_changed_afterwards_is_refused()
    {
        await MigrateAsync(Scripts);
        var changed = StoreScript.Parse(Scripts[0].Name, "create table other (x int);");
        var e = await Assert.ThrowsAsync<StoreVersionException>(() => MigrateAsync([changed, .. Scripts.Skip(1)]));
        Assert.Contains(Scripts[0].Name, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_database_of_another_service_is_refused()
    {
        await MigrateAsync(Scripts);
        var e = await Assert.ThrowsAsync<StoreVersionException>(
            () => new StoreMigrator(database!, Scripts, NullLogger<StoreMigrator>.Instance).MigrateAsync("other", Cancel));
        Assert.Contains("'s'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Line_ends_of_a_checkout_do_not_change_a_step() => Assert.Equal(
        StoreScript.Parse("0001_a.sql", "a\nb\n").Checksum,
        StoreScript.Parse("0001_a.sql", "a\r\nb\r\n").Checksum);

    private protected Task MigrateAsync(IReadOnlyList<StoreScript> scripts) =>
        new StoreMigrator(database!, scripts, NullLogger<StoreMigrator>.Instance).MigrateAsync("s", Cancel);

    protected async Task<List<int>> NumbersAsync() => (await ReadAsync("select number from store_version order by number")).ConvertAll(n => (int)n);

    private Task<List<long>> ReadAsync(string text) => database!.QueryAsync(text, [], r => Convert.ToInt64(r.GetValue(0)), Cancel);
}
