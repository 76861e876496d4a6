using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace GpuTasks.Storage;

/// <summary>One connection, three prepared statements, one transaction a flush, blobs with the rows that name them.</summary>
internal sealed class SqliteRowSink(SqliteDataSource source, string service) : IRowSink
{
    private const string NewRow =
        $"""
        insert into grain_state (key, kind, n0, n1, service, version, payload,
            account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at, dead_at)
        values (@key, @kind, 0, 0, @service, {StoreVersions.FirstInSqlite}, @payload,
            @account, @function, @task_id, @qualifier, @line, @status, @listed, @priority, @enqueued_at, @started_at, @ended_at, @wake_at, @dead_at)
        on conflict do nothing
        returning version
        """;

    private const string ChangedRow =
        """
        update grain_state set payload = @payload, version = version + 1, modified = unixepoch(),
            account = @account, function = @function, task_id = @task_id, qualifier = @qualifier, line = @line, status = @status, listed = @listed,
            priority = @priority, enqueued_at = @enqueued_at, started_at = @started_at, ended_at = @ended_at, wake_at = @wake_at, dead_at = @dead_at
        where key = @key and kind = @kind and n0 = 0 and n1 = 0 and service = @service and version = @version
        returning version
        """;

    // SQLite rewrites the index of every column that a statement names, equal or not.
    private const string ChangedRowWithSameIndex =
        """
        update grain_state set payload = @payload, version = version + 1, modified = unixepoch()
        where key = @key and kind = @kind and n0 = 0 and n1 = 0 and service = @service and version = @version
        returning version
        """;

    private static readonly string[] IndexNames =
        ["@account", "@function", "@task_id", "@qualifier", "@line", "@status", "@listed", "@priority", "@enqueued_at", "@started_at", "@ended_at", "@wake_at", "@dead_at"];

    private SqliteConnection? connection;
    private SqliteCommand? newRow;
    private SqliteCommand? changedRow;
    private SqliteCommand? changedRowWithSameIndex;

    public int?[] Write(IReadOnlyList<RowWrite> rows)
    {
        var versions = new int?[rows.Count];
        try
        {
            Connect();
            Execute("begin immediate");
            for (var i = 0; i < rows.Count; i++)
            {
                versions[i] = Execute(rows[i]);
                if (versions[i] is not null)
                {
                    WriteBlobs(rows[i].Blobs);
                }
            }
        }
        catch (Exception e)
        {
            // Before a commit nothing counts.
            Disconnect();
            throw new RowSinkException(IsAboutTheRow(e) ? WriteFault.Row : WriteFault.Database, e);
        }

        try
        {
            Execute("commit");
        }
        catch (Exception e)
        {
            // Frames of the commit may stand in the log although it reported a failure; only a lock is harmless.
            Disconnect();
            throw new RowSinkException(e is SqliteException { SqliteErrorCode: raw.SQLITE_BUSY } ? WriteFault.Database : WriteFault.Unknown, e);
        }

        return versions;
    }

    public int? Write(RowWrite row) => Write([row])[0];

    public void Dispose() => Disconnect();

    private static bool IsAboutTheRow(Exception e) => e is SqliteException
    {
        SqliteErrorCode: raw.SQLITE_CONSTRAINT or raw.SQLITE_TOOBIG or raw.SQLITE_MISMATCH or raw.SQLITE_ERROR,
    };

    private void Execute(string text)
    {
        using var command = connection!.CreateCommand();
        command.CommandText = text;
        command.ExecuteNonQuery();
    }

    private int? Execute(RowWrite row)
    {
        var command = row switch
        {
            { Version: null } => newRow!,
            { IndexUnchanged: true } => changedRowWithSameIndex!,
            _ => changedRow!,
        };
        var p = command.Parameters;
        p[0].Value = row.Key;
        p[1].Value = row.Kind;
        p[2].Value = service;
        p[3].Value = row.Payload;
        p[4].Value = row.Version ?? (object)DBNull.Value;
        if (p.Count > 5)
        {
            var index = row.Index;
            p[5].Value = index?.Account ?? (object)DBNull.Value;
            p[6].Value = index?.Function ?? (object)DBNull.Value;
            p[7].Value = index?.TaskId ?? (object)DBNull.Value;
            p[8].Value = index?.Qualifier ?? (object)DBNull.Value;
            p[9].Value = index?.Line ?? (object)DBNull.Value;
            p[10].Value = index?.Status ?? (object)DBNull.Value;
            p[11].Value = index?.Listed ?? (object)DBNull.Value;
            p[12].Value = index?.Priority ?? (object)DBNull.Value;
            p[13].Value = index?.EnqueuedAt ?? (object)DBNull.Value;
            p[14].Value = index?.StartedAt ?? (object)DBNull.Value;
            p[15].Value = index?.EndedAt ?? (object)DBNull.Value;
            p[16].Value = index?.WakeAt ?? (object)DBNull.Value;
            p[17].Value = index?.DeadAt ?? (object)DBNull.Value;
        }

        return command.ExecuteScalar() is long version ? (int)version : null;
    }

    private void WriteBlobs(IReadOnlyList<NewBlob> blobs)
    {
        foreach (var blob in blobs)
        {
            using var command = connection!.CreateCommand();
            command.CommandText = "insert into grain_blob (key, id, data) values (@key, @id, @data)";
            command.Parameters.AddWithValue("@key", blob.Name.Key);
            command.Parameters.AddWithValue("@id", blob.Name.Id);
            command.Parameters.AddWithValue("@data", blob.Data);
            command.ExecuteNonQuery();
        }
    }

    private void Connect()
    {
        if (connection is not null)
        {
            return;
        }

        connection = source.OpenWriter();
        newRow = Prepare(NewRow, withIndex: true);
        changedRow = Prepare(ChangedRow, withIndex: true);
        changedRowWithSameIndex = Prepare(ChangedRowWithSameIndex, withIndex: false);
    }

    private SqliteCommand Prepare(string text, bool withIndex)
    {
        var command = connection!.CreateCommand();
        command.CommandText = text;
        command.Parameters.Add("@key", SqliteType.Text);
        command.Parameters.Add("@kind", SqliteType.Text);
        command.Parameters.Add("@service", SqliteType.Text);
        command.Parameters.Add("@payload", SqliteType.Blob);
        command.Parameters.Add("@version", SqliteType.Integer);
        foreach (var name in withIndex ? IndexNames : [])
        {
            command.Parameters.Add(new SqliteParameter { ParameterName = name });
        }

        command.Prepare();
        return command;
    }

    private void Disconnect()
    {
        newRow?.Dispose();
        changedRow?.Dispose();
        changedRowWithSameIndex?.Dispose();
        // It is not pooled, so this ends whatever transaction is unfinished.
        connection?.Dispose();
        (newRow, changedRow, changedRowWithSameIndex, connection) = (null, null, null, null);
    }
}
