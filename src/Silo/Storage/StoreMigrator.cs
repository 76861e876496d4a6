using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace GpuTasks.Storage;

/// <summary>The database cannot be used by this version of the program, or belongs to somebody else.</summary>
public sealed class StoreVersionException(string message) : Exception(message);

/// <summary>Brings the database to the schema of this program: all missing steps in one transaction, one process at a time.</summary>
internal sealed partial class StoreMigrator(StoreDatabase database, IReadOnlyList<StoreScript> scripts, ILogger<StoreMigrator> logger)
{
    // Any constant will do, as long as nothing else in the database locks the same one.
    private const string AdvisoryLock = "select pg_advisory_xact_lock(5279803104417310977)";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    /// <summary>So long a database that cannot be reached is waited for, so that a machine may start before its database.</summary>
    private static readonly TimeSpan ConnectPatience = TimeSpan.FromMinutes(1);

    // The system's own attempts at a connection come further and further apart.
    private static readonly TimeSpan ConnectTry = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan ConnectPause = TimeSpan.FromMilliseconds(500);

    /// <exception cref="StoreVersionException">The database is newer, was changed by hand, or belongs to another service.</exception>
    public async Task MigrateAsync(string service, CancellationToken cancellationToken)
    {
        await using var connection = await ConnectAsync(cancellationToken);
        if (database.Provider == StoreProvider.PostgreSql)
        {
            await MigratePostgreSqlAsync(connection, service, cancellationToken);
        }
        else
        {
            await MigrateSqliteAsync(connection, service, cancellationToken);
        }
    }

    private async Task<DbConnection> ConnectAsync(CancellationToken cancellationToken)
    {
        for (var began = Stopwatch.GetTimestamp(); ; await Task.Delay(ConnectPause, cancellationToken))
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(ConnectTry);
            try
            {
                return await database.DataSource.OpenConnectionAsync(limit.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or DbException { IsTransient: true } && !cancellationToken.IsCancellationRequested)
            {
                if (Stopwatch.GetElapsedTime(began) >= ConnectPatience)
                {
                    throw new TimeoutException($"The store's database could not be reached for {ConnectPatience.TotalSeconds:0} s: {e.Message}", e);
                }

                LogAway(logger, e.Message);
            }
        }
    }

    private async Task MigratePostgreSqlAsync(DbConnection connection, string service, CancellationToken cancellationToken)
    {
        if (await ScalarAsync(connection, "show server_encoding", cancellationToken) is var encoding and not "UTF8")
        {
            throw new StoreVersionException($"The database's encoding is {encoding}; it must be UTF8.");
        }

        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        await ExecuteAsync(connection, AdvisoryLock, cancellationToken);
        await ApplyMissingAsync(connection, service, cancellationToken);
        await transaction.CommitAsync(cancellationToken);
    }

    private async Task MigrateSqliteAsync(DbConnection connection, string service, CancellationToken cancellationToken)
    {
        await ExecuteAsync(connection, "begin exclusive", cancellationToken);
        try
        {
            await ApplyMissingAsync(connection, service, cancellationToken);
            await ExecuteAsync(connection, "commit", cancellationToken);
        }
        catch
        {
            await ExecuteAsync(connection, "rollback", CancellationToken.None);
            throw;
        }
    }

    private async Task ApplyMissingAsync(DbConnection connection, string service, CancellationToken cancellationToken)
    {
        await ExecuteAsync(
            connection,
            """
            create table if not exists store_version (number int primary key, name text not null, checksum text not null, applied_at bigint not null);
            create table if not exists store_owner (service text primary key);
            """,
            cancellationToken);
        await CheckOwnerAsync(connection, service, cancellationToken);
        var applied = await AppliedAsync(connection, cancellationToken);
        Check(applied);
        foreach (var script in scripts.Where(s => !applied.ContainsKey(s.Number)))
        {
            LogApplying(logger, script.Name);
            await ExecuteAsync(connection, script.Sql, cancellationToken);
            foreach (var (name, text) in script.Queries)
            {
                await ExecuteAsync(
                    connection,
                    "insert into OrleansQuery (QueryKey, QueryText) values (@name, @text) on conflict (QueryKey) do update set QueryText = excluded.QueryText",
                    cancellationToken,
                    ("name", name),
                    ("text", text));
            }

            await ExecuteAsync(
                connection,
                "insert into store_version (number, name, checksum, applied_at) values (@number, @name, @checksum, @at)",
                cancellationToken,
                ("number", script.Number),
                ("name", script.Name),
                ("checksum", script.Checksum),
                ("at", DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()));
        }
    }

    /// <summary>Lists and the sweeper read without naming the service, so one database holds one service only.</summary>
    private static async Task CheckOwnerAsync(DbConnection connection, string service, CancellationToken cancellationToken)
    {
        var owner = await ScalarAsync(connection, "select service from store_owner", cancellationToken);
        if (owner is null)
        {
            await ExecuteAsync(connection, "insert into store_owner (service) values (@service)", cancellationToken, ("service", service));
        }
        else if (owner != service)
        {
            throw new StoreVersionException($"The database belongs to the service '{owner}'; '{service}' needs one of its own.");
        }
    }

    private static async Task<Dictionary<int, (string Name, string Checksum)>> AppliedAsync(DbConnection connection, CancellationToken cancellationToken)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = "select number, name, checksum from store_version";
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var applied = new Dictionary<int, (string Name, string Checksum)>();
        while (await reader.ReadAsync(cancellationToken))
        {
            applied[reader.GetInt32(0)] = (reader.GetString(1), reader.GetString(2));
        }

        return applied;
    }

    private void Check(Dictionary<int, (string Name, string Checksum)> applied)
    {
        var known = scripts.ToDictionary(s => s.Number);
        foreach (var (number, (name, checksum)) in applied.OrderBy(a => a.Key))
        {
            if (!known.TryGetValue(number, out var script))
            {
                throw new StoreVersionException(
                    $"The database is newer than this program: it has step {name}, this program ends at {scripts[^1].Name}. Start a newer version.");
            }

            if (script.Checksum != checksum)
            {
                throw new StoreVersionException(
                    $"Step {name} of the database is not the one that this program knows as {script.Name}. Start the version that made the database, or restore it from a backup.");
            }
        }
    }

    private static async Task<string?> ScalarAsync(DbConnection connection, string text, CancellationToken cancellationToken)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = text;
        return await command.ExecuteScalarAsync(cancellationToken) is { } value and not DBNull
            ? Convert.ToString(value, CultureInfo.InvariantCulture)
            : null;
    }

    private static async Task ExecuteAsync(
        DbConnection connection,
        string text,
        CancellationToken cancellationToken,
        params (string Name, object Value)[] parameters)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = text;
        command.CommandTimeout = (int)Patience.TotalSeconds;
        foreach (var (name, value) in parameters)
        {
            var parameter = command.CreateParameter();
            parameter.ParameterName = name;
            parameter.Value = value;
            command.Parameters.Add(parameter);
        }

        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The database cannot be reached yet, and is tried again: {Why}")]
    private static partial void LogAway(ILogger logger, string why);

    [LoggerMessage(Level = LogLevel.Information, Message = "Applying store step {Step}.")]
    private static partial void LogApplying(ILogger logger, string step);
}
