using Npgsql;
using NpgsqlTypes;

namespace GpuTasks.Storage;

/// <summary>
/// New rows are one statement, changed rows another, sent together as one transaction. Both are inserts that meet the
/// primary key, a form for which no plan other than probing that key exists; an update joined to the arrays can get a
/// cached plan that reads the whole table. Blobs, if there are any, follow in the same transaction for the rows that were written.
/// </summary>
internal sealed class PostgreSqlRowSink(NpgsqlDataSource source, string service) : IRowSink
{
    private const string Columns = "account, function, task_id, qualifier, line, status, listed, priority, enqueued_at, started_at, ended_at, wake_at, dead_at";

    private const string Rows =
        $"""
        unnest($1::text[], $2::text[], $3::int[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::int[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
            as r (key, kind, version, payload, {Columns})
        """;

    private const string NewRows =
        $"""
        insert into grain_state (key, kind, n0, n1, service, version, payload, {Columns})
        select key, kind, 0, 0, $18, {StoreVersions.FirstInPostgreSql}, payload, {Columns} from {Rows}
        on conflict do nothing
        returning key, kind, version
        """;

    // A row that is inserted here was deleted underneath; dividing by zero then undoes the whole transaction.
    private const string ChangedRows =
        $"""
        insert into grain_state as g (key, kind, n0, n1, service, version, payload, {Columns})
        select key, kind, 0, 0, $18, version + 1, payload, {Columns} from {Rows}
        on conflict (key, kind, n0, n1, service) do update set payload = excluded.payload, version = excluded.version, modified = now(),
            account = excluded.account, function = excluded.function, task_id = excluded.task_id, qualifier = excluded.qualifier,
            line = excluded.line, status = excluded.status, listed = excluded.listed, priority = excluded.priority, enqueued_at = excluded.enqueued_at,
            started_at = excluded.started_at, ended_at = excluded.ended_at, wake_at = excluded.wake_at, dead_at = excluded.dead_at
        where g.version = excluded.version - 1
        returning g.key, g.kind, g.version, 1 / (g.xmax <> 0)::int
        """;

    private const string OneChangedRow =
        """
        update grain_state set payload = $4, version = version + 1, modified = now(),
            account = $6, function = $7, task_id = $8, qualifier = $9, line = $10, status = $11, listed = $12, priority = $13,
            enqueued_at = $14, started_at = $15, ended_at = $16, wake_at = $17, dead_at = $18
        where key = $1 and kind = $2 and n0 = 0 and n1 = 0 and service = $5 and version = $3
        returning version
        """;

    private NpgsqlConnection? connection;
    private NpgsqlCommand? newRows;
    private NpgsqlCommand? changedRows;
    private NpgsqlBatch? newAndChangedRows;

    public int?[] Write(IReadOnlyList<RowWrite> rows)
    {
        var versions = new int?[rows.Count];
        var places = new Dictionary<(string, string), int>(rows.Count);
        for (var i = 0; i < rows.Count; i++)
        {
            places[(rows[i].Key, rows[i].Kind)] = i;
        }

        // One order for all silos, so that their flushes never wait for each other in a ring.
        var created = rows.Where(r => r.Version is null).OrderBy(r => r.Key, StringComparer.Ordinal).ToArray();
        var changed = rows.Where(r => r.Version is not null).OrderBy(r => r.Key, StringComparer.Ordinal).ToArray();
        Run(rows, versions, () =>
        {
            if (created.Length == 0 || changed.Length == 0)
            {
                using var reader = (created.Length == 0 ? Fill(changedRows!, changed) : Fill(newRows!, created)).ExecuteReader();
                ReadVersions(reader);
            }
            else
            {
                // Statements of one batch are one transaction.
                Fill(newAndChangedRows!.BatchCommands[0].Parameters, created);
                Fill(newAndChangedRows.BatchCommands[1].Parameters, changed);
                using var reader = newAndChangedRows.ExecuteReader();
                ReadVersions(reader);
                reader.NextResult();
                ReadVersions(reader);
            }
        });
        return versions;

        void ReadVersions(NpgsqlDataReader reader)
        {
            while (reader.Read())
            {
                versions[places[(reader.GetString(0), reader.GetString(1))]] = reader.GetInt32(2);
            }
        }
    }

    public int? Write(RowWrite row)
    {
        if (row.Version is null)
        {
            return Write([row])[0];
        }

        int?[] version = [null];
        Run([row], version, () =>
        {
            using var command = new NpgsqlCommand(OneChangedRow, connection);
            var index = row.Index;
            Add(NpgsqlDbType.Text, row.Key);
            Add(NpgsqlDbType.Text, row.Kind);
            Add(NpgsqlDbType.Integer, row.Version);
            Add(NpgsqlDbType.Bytea, row.Payload);
            Add(NpgsqlDbType.Text, service);
            Add(NpgsqlDbType.Text, index?.Account);
            Add(NpgsqlDbType.Text, index?.Function);
            Add(NpgsqlDbType.Text, index?.TaskId);
            Add(NpgsqlDbType.Text, index?.Qualifier);
            Add(NpgsqlDbType.Text, index?.Line);
            Add(NpgsqlDbType.Text, index?.Status);
            Add(NpgsqlDbType.Integer, index is null ? null : index.Listed ? 1 : 0);
            Add(NpgsqlDbType.Integer, index?.Priority);
            Add(NpgsqlDbType.Bigint, index?.EnqueuedAt);
            Add(NpgsqlDbType.Bigint, index?.StartedAt);
            Add(NpgsqlDbType.Bigint, index?.EndedAt);
            Add(NpgsqlDbType.Bigint, index?.WakeAt);
            Add(NpgsqlDbType.Bigint, index?.DeadAt);
            version[0] = (int?)command.ExecuteScalar();

            void Add(NpgsqlDbType type, object? value) =>
                command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = type, Value = value ?? DBNull.Value });
        });
        return version[0];
    }

    public void Dispose() => Disconnect();

    private static NpgsqlCommand Fill(NpgsqlCommand command, RowWrite[] rows)
    {
        Fill(command.Parameters, rows);
        return command;
    }

    private static void Fill(NpgsqlParameterCollection p, RowWrite[] rows)
    {
        p[0].Value = Array.ConvertAll(rows, r => r.Key);
        p[1].Value = Array.ConvertAll(rows, r => r.Kind);
        p[2].Value = Array.ConvertAll(rows, r => r.Version);
        p[3].Value = Array.ConvertAll(rows, r => r.Payload);
        p[4].Value = Array.ConvertAll(rows, r => r.Index?.Account);
        p[5].Value = Array.ConvertAll(rows, r => r.Index?.Function);
        p[6].Value = Array.ConvertAll(rows, r => r.Index?.TaskId);
        p[7].Value = Array.ConvertAll(rows, r => r.Index?.Qualifier);
        p[8].Value = Array.ConvertAll(rows, r => r.Index?.Line);
        p[9].Value = Array.ConvertAll(rows, r => r.Index?.Status);
        p[10].Value = Array.ConvertAll(rows, r => r.Index is null ? (int?)null : r.Index.Listed ? 1 : 0);
        p[11].Value = Array.ConvertAll(rows, r => r.Index?.Priority);
        p[12].Value = Array.ConvertAll(rows, r => r.Index?.EnqueuedAt);
        p[13].Value = Array.ConvertAll(rows, r => r.Index?.StartedAt);
        p[14].Value = Array.ConvertAll(rows, r => r.Index?.EndedAt);
        p[15].Value = Array.ConvertAll(rows, r => r.Index?.WakeAt);
        p[16].Value = Array.ConvertAll(rows, r => r.Index?.DeadAt);
    }

    private void Run(IReadOnlyList<RowWrite> rows, int?[] versions, Action write)
    {
        try
        {
            Connect();
        }
        catch (Exception e)
        {
            Disconnect();
            throw new RowSinkException(WriteFault.Database, e);
        }

        try
        {
            if (rows.All(row => row.Blobs.Count == 0))
            {
                write();
                return;
            }

            using var transaction = connection!.BeginTransaction();
            write();
            for (var i = 0; i < rows.Count; i++)
            {
                WriteBlobs(versions[i] is null ? [] : rows[i].Blobs);
            }

            transaction.Commit();
        }
        catch (PostgresException e) when (e.InvariantSeverity is "ERROR")
        {
            // The server said no and undid the transaction; the connection is as good as before.
            throw new RowSinkException(IsAboutTheDatabase(e) ? WriteFault.Database : WriteFault.Row, e);
        }
        catch (Exception e)
        {
            // The connection broke, or the server took too long: the commit may have come through.
            Disconnect();
            throw new RowSinkException(WriteFault.Unknown, e);
        }
    }

    private void WriteBlobs(IReadOnlyList<NewBlob> blobs)
    {
        foreach (var blob in blobs)
        {
            using var command = new NpgsqlCommand("insert into grain_blob (key, id, data) values ($1, $2, $3)", connection);
            command.Parameters.Add(new NpgsqlParameter { Value = blob.Name.Key });
            command.Parameters.Add(new NpgsqlParameter { Value = blob.Name.Id });
            command.Parameters.Add(new NpgsqlParameter { Value = blob.Data });
            command.ExecuteNonQuery();
        }
    }

    // Read-only, out of resources (disk full among them), somebody intervened, the system failed, an internal error.
    private static bool IsAboutTheDatabase(PostgresException e) =>
        e.SqlState == PostgresErrorCodes.ReadOnlySqlTransaction || e.SqlState[..2] is "53" or "57" or "58" or "F0" or "XX";

    private void Connect()
    {
        if (connection is not null)
        {
            return;
        }

        connection = source.OpenConnection();
        newRows = new NpgsqlCommand(NewRows, connection);
        AddParameters(newRows.Parameters);
        newRows.Prepare();
        changedRows = new NpgsqlCommand(ChangedRows, connection);
        AddParameters(changedRows.Parameters);
        changedRows.Prepare();
        newAndChangedRows = new NpgsqlBatch(connection) { BatchCommands = { new(NewRows), new(ChangedRows) } };
        AddParameters(newAndChangedRows.BatchCommands[0].Parameters);
        AddParameters(newAndChangedRows.BatchCommands[1].Parameters);
        newAndChangedRows.Prepare();
    }

    private void AddParameters(NpgsqlParameterCollection parameters)
    {
        ReadOnlySpan<NpgsqlDbType> types =
        [
            NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Integer, NpgsqlDbType.Bytea,
            NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text,
            NpgsqlDbType.Integer, NpgsqlDbType.Integer, NpgsqlDbType.Bigint, NpgsqlDbType.Bigint, NpgsqlDbType.Bigint, NpgsqlDbType.Bigint, NpgsqlDbType.Bigint,
        ];
        foreach (var type in types)
        {
            parameters.Add(new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Array | type });
        }

        parameters.Add(new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Text, Value = service });
    }

    private void Disconnect()
    {
        newRows?.Dispose();
        changedRows?.Dispose();
        newAndChangedRows?.Dispose();
        connection?.Dispose();
        (newRows, changedRows, newAndChangedRows, connection) = (null, null, null, null);
    }
}
