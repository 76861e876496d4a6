using System.Data;
using System.Data.Common;
using System.Globalization;
using Microsoft.Data.Sqlite;

namespace GpuTasks.Storage;

/// <summary>
/// Hands out connections whose pragmas are set when they open. Inside a query text they could not be: a pragma that
/// answers with a row breaks the reader of the Orleans providers.
/// </summary>
internal sealed class SqliteDataSource : DbDataSource
{
    private readonly string pragmas;

    public SqliteDataSource(StoreOptions options)
    {
        var path = Path.GetFullPath(options.Path);
        ConnectionString = new SqliteConnectionStringBuilder
        {
            DataSource = path,
            Mode = SqliteOpenMode.ReadWriteCreate,
            Pooling = true,
            DefaultTimeout = Math.Max(1, (int)Math.Ceiling(options.BusyTimeout.TotalSeconds)),
        }.ToString();
        var busy = ((long)options.BusyTimeout.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
        pragmas = $"pragma busy_timeout = {busy}; pragma synchronous = full; pragma journal_mode = wal;";
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        MakeForOwnerOnly(path);
    }

    public override string ConnectionString { get; }

    /// <summary>An open connection that is nobody else's afterwards, with room to keep the pages that writes touch.</summary>
    public SqliteConnection OpenWriter()
    {
        var connection = Create(new SqliteConnectionStringBuilder(ConnectionString) { Pooling = false }.ToString());
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = "pragma cache_size = -65536";
        command.ExecuteNonQuery();
        return connection;
    }

    protected override DbConnection CreateDbConnection() => Create(ConnectionString);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            CloseIdleConnections();
        }

        base.Dispose(disposing);
    }

    protected override ValueTask DisposeAsyncCore()
    {
        CloseIdleConnections();
        return base.DisposeAsyncCore();
    }

    /// <summary>Functions carry secrets. SQLite gives its side files the mode of the main one.</summary>
    private static void MakeForOwnerOnly(string path)
    {
        var options = new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.ReadWrite | FileShare.Delete };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        new FileStream(path, options).Dispose();
    }

    private void CloseIdleConnections()
    {
        using var connection = new SqliteConnection(ConnectionString);
        SqliteConnection.ClearPool(connection);
    }

    private SqliteConnection Create(string connectionString)
    {
        var connection = new SqliteConnection(connectionString);
        connection.StateChange += SetPragmas;
        return connection;
    }

    private void SetPragmas(object sender, StateChangeEventArgs change)
    {
        if (change.CurrentState != ConnectionState.Open)
        {
            return;
        }

        using var command = ((SqliteConnection)sender).CreateCommand();
        command.CommandText = pragmas;
        command.ExecuteNonQuery();
    }
}
