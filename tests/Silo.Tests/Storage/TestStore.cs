using GpuTasks.Store;
using GpuTasks.Storage;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using Orleans.Storage;
using Orleans.TestingHost;

namespace GpuTasks.Tests.Storage;

/// <summary>A database of its own, and one silo on it, for the tests of one class.</summary>
public abstract class TestStore : IAsyncLifetime
{
    private InProcessTestCluster? cluster;

    /// <summary>Why these tests cannot run here, or null.</summary>
    public virtual string? Missing => null;

    public StoreOptions Options { get; private set; } = new();

    public IServiceProvider Services => cluster!.Silos[0].ServiceProvider;

    public IClusterClient Client => cluster!.Client;

    public IGrainStorage Storage => Services.GetRequiredKeyedService<IGrainStorage>(StoreNames.Provider);

    public ITaskIndex Tasks => Services.GetRequiredService<ITaskIndex>();

    public IFunctionIndex Functions => Services.GetRequiredService<IFunctionIndex>();

    internal StoreDatabase Database => Services.GetRequiredService<StoreDatabase>();

    public async ValueTask InitializeAsync()
    {
        if (Missing is not null)
        {
            return;
        }

        Options = await CreateAsync();
        var builder = new InProcessTestClusterBuilder(1);
        builder.ConfigureSilo((_, silo) => silo.AddGpuTasksStore(Options));
        cluster = builder.Build();
        await cluster.DeployAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
        {
            await cluster.StopAllSilosAsync();
            await cluster.DisposeAsync();
        }

        await DropAsync();
        GC.SuppressFinalize(this);
    }

    public abstract Task<StoreOptions> CreateAsync();

    public abstract Task DropAsync();
}

/// <summary>A SQLite file in the folder for temporary files.</summary>
public class SqliteStore : TestStore
{
    private string? folder;

    public override Task<StoreOptions> CreateAsync()
    {
        folder = Directory.CreateTempSubdirectory("gputasks-store-").FullName;
        return Task.FromResult(new StoreOptions { Path = Path.Combine(folder, "new", "store.db") });
    }

    public override Task DropAsync()
    {
        if (folder is not null)
        {
            SqliteConnection.ClearAllPools();
            Directory.Delete(folder, recursive: true);
        }

        return Task.CompletedTask;
    }
}

/// <summary>The same without group commit.</summary>
public sealed class PlainSqliteStore : SqliteStore
{
    public override async Task<StoreOptions> CreateAsync()
    {
        var options = await base.CreateAsync();
        options.GroupCommit = false;
        return options;
    }
}

/// <summary>A new database on the server that GPUTASKS_TEST_POSTGRES names.</summary>
public class PostgreSqlStore : TestStore
{
    private const string Variable = "GPUTASKS_TEST_POSTGRES";
    private readonly string name = $"gputasks_test_{Guid.NewGuid():N}";

    public static string? Server => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } text ? text : null;

    public override string? Missing => Server is null ? $"{Variable} names no PostgreSQL server" : null;

    public static async Task ExecuteOnServerAsync(string text)
    {
        await using var source = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(Server) { Pooling = false });
        await using var command = source.CreateCommand(text);
        await command.ExecuteNonQueryAsync();
    }

    public override async Task<StoreOptions> CreateAsync()
    {
        await ExecuteOnServerAsync($"create database {name}");
        return new StoreOptions
        {
            Provider = StoreProvider.PostgreSql,
            ConnectionString = new NpgsqlConnectionStringBuilder(Server) { Database = name }.ToString(),
        };
    }

    public override async Task DropAsync()
    {
        if (Server is not null)
        {
            await ExecuteOnServerAsync($"drop database if exists {name} with (force)");
        }
    }
}

/// <summary>The same without group commit.</summary>
public sealed class PlainPostgreSqlStore : PostgreSqlStore
{
    public override async Task<StoreOptions> CreateAsync()
    {
        var options = await base.CreateAsync();
        options.GroupCommit = false;
        return options;
    }
}
