using Npgsql;

namespace GpuTasks.SystemTests;

/// <summary>A database of its own on the tests' PostgreSQL server; dropped at the end.</summary>
internal sealed class Database : IAsyncDisposable
{
    private readonly string name = $"system_{Guid.NewGuid():N}";

    private Database()
    {
    }

    /// <summary>Connection string of the database.</summary>
    public string ConnectionString => new NpgsqlConnectionStringBuilder(Machine.Postgres) { Database = name }.ConnectionString;

    public static async Task<Database> CreateAsync()
    {
        var database = new Database();
        await RunAsync($"CREATE DATABASE {database.name}");
        return database;
    }

    public async ValueTask DisposeAsync() => await RunAsync($"DROP DATABASE {name} WITH (FORCE)");

    private static async Task RunAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(Machine.Postgres);
        await connection.OpenAsync();
#pragma warning disable CA2100 // The only variable part is a name that this class made itself.
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        await command.ExecuteNonQueryAsync();
    }
}
