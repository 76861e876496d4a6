using System.Data.Common;
using Npgsql;

namespace GpuTasks.Storage;

/// <summary>The one database of a silo: its kind and its connections.</summary>
internal sealed class StoreDatabase : IDisposable, IAsyncDisposable
{
    public StoreDatabase(StoreOptions options)
    {
        Options = options;
        DataSource = options.Provider == StoreProvider.PostgreSql ? PostgreSql(options) : new SqliteDataSource(options);
        Members = options.Provider == StoreProvider.PostgreSql ? PostgreSqlMembers(options) : DataSource;
    }

    public StoreOptions Options { get; }

    public StoreProvider Provider => Options.Provider;

    public DbDataSource DataSource { get; }

    /// <summary>For the table of members alone. After a cut of the network the old connections answer late or never, and a silo must soon read that it was declared dead.</summary>
    public DbDataSource Members { get; }

    /// <summary>Name by which the Orleans providers know the database; the one for SQLite stands for Microsoft.Data.Sqlite.</summary>
    public string Invariant => Provider == StoreProvider.PostgreSql ? "Npgsql" : "System.Data.SQLite";

    public void Dispose()
    {
        DataSource.Dispose();
        Members.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        await DataSource.DisposeAsync();
        await Members.DisposeAsync();
    }

    /// <summary>Runs one query and reads all its rows.</summary>
    public async Task<List<T>> QueryAsync<T>(
        string text,
        IEnumerable<(string Name, object Value)> parameters,
        Func<DbDataReader, T> read,
        CancellationToken cancellationToken)
    {
        await using var connection = await DataSource.OpenConnectionAsync(cancellationToken);
        await using var command = connection.CreateCommand();
        command.CommandText = text;
        foreach (var (name, value) in parameters)
        {
            var parameter = command.CreateParameter();
            parameter.ParameterName = name;
            parameter.Value = value;
            command.Parameters.Add(parameter);
        }

        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var rows = new List<T>();
        while (await reader.ReadAsync(cancellationToken))
        {
            rows.Add(read(reader));
        }

        return rows;
    }

    private static NpgsqlDataSource PostgreSqlMembers(StoreOptions options) => NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(options.ConnectionString)
    {
        MaxPoolSize = 4,
        Timeout = 2,
        CommandTimeout = 5,
        CancellationTimeout = -1,
        NoResetOnClose = true,
        ApplicationName = "gputasks members",
    });

    private static NpgsqlDataSource PostgreSql(StoreOptions options)
    {
        var text = new NpgsqlConnectionStringBuilder(options.ConnectionString);
        SetUnlessGiven("Maximum Pool Size", () => text.MaxPoolSize = options.MaxPoolSize);

        // Without prepared statements a write costs twice as much.
        SetUnlessGiven("Max Auto Prepare", () => text.MaxAutoPrepare = 64);
        SetUnlessGiven("Auto Prepare Min Usages", () => text.AutoPrepareMinUsages = 2);

        // No statement here leaves anything behind in its session.
        SetUnlessGiven("No Reset On Close", () => text.NoResetOnClose = true);
        SetUnlessGiven("Application Name", () => text.ApplicationName = "gputasks");
        return NpgsqlDataSource.Create(text);

        void SetUnlessGiven(string keyword, Action set)
        {
            if (!new NpgsqlConnectionStringBuilder(options.ConnectionString).ShouldSerialize(keyword))
            {
                set();
            }
        }
    }
}
