using System.Net;
using System.Threading.Channels;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;
using NpgsqlTypes;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>
/// What no service on this machine can beat: one HTTP endpoint that puts its body into one row of a table with nothing but
/// a key, commits those that wait together, and answers. No accounts, no functions, no queue, no index.
/// </summary>
internal static class Floor
{
    public static async Task<int> RunAsync(string[] arguments)
    {
        var queue = Channel.CreateBounded<Row>(new BoundedChannelOptions(4_096) { SingleReader = true });
        using var sink = arguments[0] == "pg" ? (ISink)new PostgreSqlSink(arguments[1]) : new SqliteSink(arguments[1]);
        new Thread(() => Write(queue.Reader, sink)) { IsBackground = true }.Start();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        var app = builder.Build();
        app.MapPost("/submit", async (HttpContext http) =>
        {
            using var body = new MemoryStream();
            await http.Request.Body.CopyToAsync(body);
            var row = new Row($"r{Guid.CreateVersion7():N}", body.ToArray());
            await queue.Writer.WriteAsync(row);
            await row.Done.Task;
            http.Response.StatusCode = StatusCodes.Status202Accepted;
        });
        await app.StartAsync();
        Console.WriteLine($"listening {app.Urls.First()}");
        await app.WaitForShutdownAsync();
        return 0;
    }

    private static void Write(ChannelReader<Row> queue, ISink sink)
    {
        var rows = new List<Row>();
        while (queue.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            rows.Clear();
            while (rows.Count < 512 && queue.TryRead(out var row))
            {
                rows.Add(row);
            }

            sink.Write(rows);
            rows.ForEach(row => row.Done.SetResult());
        }
    }

    private interface ISink : IDisposable
    {
        void Write(List<Row> rows);
    }

    private sealed record Row(string Id, byte[] Payload)
    {
        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private sealed class PostgreSqlSink : ISink
    {
        private readonly NpgsqlConnection connection;
        private readonly NpgsqlCommand insert;

        public PostgreSqlSink(string connectionString)
        {
            connection = new NpgsqlConnection(connectionString);
            connection.Open();
            using var create = new NpgsqlCommand("create table if not exists floor (id text primary key, payload bytea not null)", connection);
            create.ExecuteNonQuery();
            insert = new NpgsqlCommand("insert into floor select * from unnest($1::text[], $2::bytea[])", connection);
            insert.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Text });
            insert.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Bytea });
            insert.Prepare();
        }

        public void Write(List<Row> rows)
        {
            insert.Parameters[0].Value = rows.ConvertAll(row => row.Id).ToArray();
            insert.Parameters[1].Value = rows.ConvertAll(row => row.Payload).ToArray();
            insert.ExecuteNonQuery();
        }

        public void Dispose()
        {
            insert.Dispose();
            connection.Dispose();
        }
    }

    private sealed class SqliteSink : ISink
    {
        private readonly SqliteConnection connection;
        private readonly SqliteCommand insert;

        public SqliteSink(string path)
        {
            connection = new SqliteConnection($"Data Source={path}");
            connection.Open();
            using var create = connection.CreateCommand();
            create.CommandText = "pragma journal_mode = wal; pragma synchronous = full; create table floor (id text primary key, payload blob not null) without rowid";
            create.ExecuteNonQuery();
            insert = connection.CreateCommand();
            insert.CommandText = "insert into floor values ($id, $payload)";
            insert.Parameters.Add("$id", SqliteType.Text);
            insert.Parameters.Add("$payload", SqliteType.Blob);
        }

        public void Write(List<Row> rows)
        {
            using var transaction = connection.BeginTransaction();
            insert.Transaction = transaction;
            foreach (var row in rows)
            {
                insert.Parameters[0].Value = row.Id;
                insert.Parameters[1].Value = row.Payload;
                insert.ExecuteNonQuery();
            }

            transaction.Commit();
        }

        public void Dispose()
        {
            insert.Dispose();
            connection.Dispose();
        }
    }
}
