using Npgsql;

namespace GpuTasks.Storage;

/// <summary>The database that keeps the state.</summary>
public enum StoreProvider
{
    /// <summary>A file beside the process: one machine, no server.</summary>
    Sqlite = 0,

    /// <summary>A PostgreSQL server, 14 or newer: what a cluster needs.</summary>
    PostgreSql = 1,
}

/// <summary>Where and how state is kept.</summary>
public sealed class StoreOptions
{
    /// <summary>Kind of database; default <see cref="StoreProvider.Sqlite"/>.</summary>
    public StoreProvider Provider { get; set; } = StoreProvider.Sqlite;

    /// <summary>File of the SQLite database; its folder is made if missing. Default <c>gputasks.db</c>. Not read for PostgreSQL.</summary>
    public string Path { get; set; } = "gputasks.db";

    /// <summary>
    /// Npgsql connection string with at least <c>Host</c>; the rest that speed needs is set by the store where the string
    /// leaves it out. The database must be in UTF-8. Not read for SQLite.
    /// </summary>
    public string ConnectionString { get; set; } = "";

    /// <summary>Connections to PostgreSQL at once: 2 to 500, default 32 (fewer and more were both slower on small machines).</summary>
    public int MaxPoolSize { get; set; } = 32;

    /// <summary>How long a SQLite statement waits for another process's lock: 1 ms to 10 min, default 10 s.</summary>
    public TimeSpan BusyTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>True keeps the members of the cluster in the store, as more than one silo needs. Default false.</summary>
    public bool UseStoreClustering { get; set; }

    /// <summary>True commits the writes that wait together; false gives each write a transaction of its own. Default true.</summary>
    public bool GroupCommit { get; set; } = true;

    /// <summary>Most rows of one commit: 1 to 5,000, default 512.</summary>
    public int GroupCommitRows { get; set; } = 512;

    /// <summary>Most writes that wait for a commit; further ones wait for a place: 1 to 100,000, default 4,096.</summary>
    public int GroupCommitQueue { get; set; } = 4096;

    /// <summary>How long a write waits for a place before it is refused: 1 ms to 1 min, default 5 s.</summary>
    public TimeSpan WritePatience { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>Every fault of these options in words; empty if there is none.</summary>
    public IReadOnlyList<string> FindFaults()
    {
        var faults = new List<string>();
        switch (Provider)
        {
            case StoreProvider.Sqlite:
                if (string.IsNullOrWhiteSpace(Path))
                {
                    faults.Add($"{nameof(Path)} must name the file of the SQLite database.");
                }

                if (BusyTimeout < TimeSpan.FromMilliseconds(1) || BusyTimeout > TimeSpan.FromMinutes(10))
                {
                    faults.Add($"{nameof(BusyTimeout)} is {BusyTimeout}; it must be 1 ms to 10 min.");
                }

                break;

            case StoreProvider.PostgreSql:
                if (FaultOfConnectionString() is { } fault)
                {
                    faults.Add(fault);
                }

                if (MaxPoolSize is < 2 or > 500)
                {
                    faults.Add($"{nameof(MaxPoolSize)} is {MaxPoolSize}; it must be 2 to 500.");
                }

                break;

            default:
                faults.Add($"{nameof(Provider)} is {Provider}; it must be {nameof(StoreProvider.Sqlite)} or {nameof(StoreProvider.PostgreSql)}.");
                break;
        }

        if (GroupCommitRows is < 1 or > 5000)
        {
            faults.Add($"{nameof(GroupCommitRows)} is {GroupCommitRows}; it must be 1 to 5000.");
        }

        if (GroupCommitQueue is < 1 or > 100_000)
        {
            faults.Add($"{nameof(GroupCommitQueue)} is {GroupCommitQueue}; it must be 1 to 100000.");
        }

        if (WritePatience < TimeSpan.FromMilliseconds(1) || WritePatience > TimeSpan.FromMinutes(1))
        {
            faults.Add($"{nameof(WritePatience)} is {WritePatience}; it must be 1 ms to 1 min.");
        }

        return faults;
    }

    private string? FaultOfConnectionString()
    {
        if (string.IsNullOrWhiteSpace(ConnectionString))
        {
            return $"{nameof(ConnectionString)} must be given for PostgreSQL.";
        }

        try
        {
            return string.IsNullOrWhiteSpace(new NpgsqlConnectionStringBuilder(ConnectionString).Host)
                ? $"{nameof(ConnectionString)} must name a Host."
                : null;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or OverflowException)
        {
            // The text may hold a password, so the message names the rule alone.
            return $"{nameof(ConnectionString)} is not one that Npgsql understands: {KeywordFault(e)}";
        }
    }

    private static string KeywordFault(Exception e) => e is ArgumentException { ParamName: { Length: > 0 } name }
        ? $"see '{name}'."
        : "a keyword or its value is unknown.";
}
