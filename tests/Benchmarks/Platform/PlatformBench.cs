using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Npgsql;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>The platform beside its floor, in one run: a table for people and lines <c>figure NAME VALUE UNIT</c> to compare runs by.</summary>
internal sealed partial class PlatformBench(bool quick, string folder, string postgres)
{
    private const string ApiKey = "bench-key";
    private const string Account = "1000000000000001";
    internal const string Functions = "/2023-03-30/functions";
    private readonly List<(string Name, string Text)> table = [];

    private int Seconds => quick ? 2 : 4;

    /// <summary>How long each kind of load runs before it is measured: young code is compiled again for speed while it runs, and that is not what a service is.</summary>
    private TimeSpan Warm => TimeSpan.FromSeconds(quick ? 6 : 10);

    private string Script => Path.Combine(folder, "submit.lua");

    public static async Task<int> RunAsync(bool quick, string? part)
    {
        if (Environment.GetEnvironmentVariable("GPUTASKS_TEST_POSTGRES") is not { Length: > 0 } postgres)
        {
            await Console.Error.WriteLineAsync("GPUTASKS_TEST_POSTGRES must name a PostgreSQL to measure on; ./bench starts one.");
            return 2;
        }

        var folder = Directory.CreateTempSubdirectory("gputasks-bench-").FullName;
        try
        {
            await new PlatformBench(quick, folder, postgres).RunAsync(part);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task RunAsync(string? part)
    {
        await File.WriteAllTextAsync(Path.Combine(folder, "keys.json"), $$"""{"accounts":[{"id":"{{Account}}","apiKeys":["{{ApiKey}}"]}]}""");
        await File.WriteAllTextAsync(Script, $$"""
            wrk.method = "POST"
            wrk.body = "{\"question\":\"how fast\"}"
            wrk.headers["Authorization"] = "Bearer {{ApiKey}}"
            wrk.headers["x-fc-invocation-type"] = "Async"
            """);
        if (part is null or "stores")
        {
            await StoresAsync();
        }

        if (part is null or "containers")
        {
            await ContainersAsync();
        }

        if (part is null or "sizes")
        {
            await SizesAsync();
        }

        Console.WriteLine();
        Console.WriteLine($"{"what",-34}{"ours",14}{"",5}{"floor",14}{"ratio",8}");
        table.ForEach(row => Console.WriteLine(row.Text));
    }

    private async Task StoresAsync()
    {
        await PgbenchAsync();
        foreach (var store in (string[])["pg", "sqlite"])
        {
            var floors = await FloorAsync(store);
            using (var silo = await SiloAsync(store, "main", groupCommit: true))
            using (var client = await ClientAsync(silo))
            {
                foreach (var (connections, floor) in floors)
                {
                    var rate = await Wrk.PostAsync(Invocations(silo, "parked"), Script, connections, Seconds);
                    Row($"submit.{store}.{connections}.rate", rate, "1/s", floor);
                }

                await BatchAsync(client, store);
                await EndToEndAsync(client, $"e2e.{store}.noop.rate");
                await IdleAsync(client, store);
            }

            using (var plain = await SiloAsync(store, "plain", groupCommit: false))
            using (var client = await ClientAsync(plain))
            {
                Row($"submit.{store}.64.plain.rate", await Wrk.PostAsync(Invocations(plain, "parked"), Script, 64, Seconds), "1/s", floors[64]);
            }
        }
    }

    /// <summary>PostgreSQL's own load generator: one durable row a transaction, 64 clients, nothing above it.</summary>
    private async Task PgbenchAsync()
    {
        if (Environment.GetEnvironmentVariable("GPUTASKS_PGBENCH") is not { Length: > 0 } pgbench)
        {
            return;
        }

        var connection = new NpgsqlConnectionStringBuilder(await DatabaseAsync("pgbench"));
        await ExecuteAsync(connection.ConnectionString, "create table floor (id text primary key, payload text)");
        var script = Path.Combine(folder, "insert.sql");
        await File.WriteAllTextAsync(script, "insert into floor values (gen_random_uuid()::text, 'how fast');\n");
        Environment.SetEnvironmentVariable("PGPASSWORD", connection.Password);
        var output = await Child.OutputAsync(
            pgbench, "-n", "-M", "prepared", "-c", "64", "-j", "1", "-T", Text(Seconds + 2), "-f", script,
            "-h", connection.Host!, "-p", Text(connection.Port), "-U", connection.Username!, connection.Database!);
        // On a machine that is busy with other things, its clients may not even be connected when the time is over.
        if (output.Split("tps = ") is [_, var rest, ..])
        {
            Row("floor.pgbench.64", double.Parse(rest.Split(' ')[0], CultureInfo.InvariantCulture), "1/s");
        }
    }

    private async Task<Dictionary<int, double>> FloorAsync(string store)
    {
        using var floor = await Child.StartAsync("floor", store, store == "pg" ? await DatabaseAsync("floor") : Path.Combine(folder, "floor.db"));
        var floors = new Dictionary<int, double>();
        var url = new Uri(floor.Url, "submit");
        await Wrk.PostAsync(url, Script, 64, 1);
        foreach (var connections in quick ? [1, 64] : (int[])[1, 64, 256])
        {
            floors[connections] = await Wrk.PostAsync(url, Script, connections, Seconds);
            Row($"submit.{store}.{connections}.floor", floors[connections], "1/s");
        }

        return floors;
    }

    private async Task BatchAsync(HttpClient client, string store)
    {
        var (batches, size) = quick ? (6, 5_000) : (10, 10_000);
        var watch = Stopwatch.StartNew();
        while (watch.Elapsed < Warm / 2)
        {
            await Task.WhenAll(SubmitAsync(client, "parked", 2_000), SubmitAsync(client, "parked", 2_000));
        }

        watch.Restart();
        await Parallel.ForAsync(0, batches, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (_, _) => await SubmitAsync(client, "parked", size));
        Row($"batch.{store}.rate", batches * size / watch.Elapsed.TotalSeconds, "1/s");
    }

    private async Task<double> EndToEndAsync(HttpClient client, string? name)
    {
        await UntilEndedAsync(client, await EndedAsync(client, wait: true));
        var begun = await NumberAsync(client, "/bench/ended");
        var before = begun;
        var watch = Stopwatch.StartNew();
        while (watch.Elapsed < (name is null ? Warm / 2 : Warm))
        {
            await SubmitAsync(client, "noop", 2_000);
            await UntilEndedAsync(client, before += 2_000);
        }

        // For some seconds, however slow the machine is just now.
        var count = Math.Clamp((int)((before - begun) / watch.Elapsed.TotalSeconds * Seconds / 1_000) * 2_000, 2_000, 40_000);
        watch.Restart();
        for (var sent = 0; sent < count; sent += 2_000)
        {
            await SubmitAsync(client, "noop", 2_000);
        }

        await UntilEndedAsync(client, before + count);
        var rate = count / watch.Elapsed.TotalSeconds;
        if (name is not null)
        {
            Row(name, rate, "1/s");
        }

        return rate;
    }

    private async Task IdleAsync(HttpClient client, string store)
    {
        var count = quick ? 100 : 400;
        for (var i = 0; i < count; i++)
        {
            // The clock of Stopwatch is the machine's, the same in all processes.
            using var request = Async("noop", string.Create(CultureInfo.InvariantCulture, $"@{Stopwatch.GetTimestamp()}"));
            (await client.SendAsync(request)).EnsureSuccessStatusCode();
            await Task.Delay(10);
        }

        await Task.Delay(500);
        var starts = (await client.GetStringAsync("/bench/starts")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(text => double.Parse(text, CultureInfo.InvariantCulture) / 1_000).Skip(count / 10).ToList();
        Row($"idle.{store}.start.p50", Percentile(starts, 50), "ms");
        Row($"idle.{store}.start.p99", Percentile(starts, 99), "ms");
    }

    /// <summary>What stays flat: the same measures beside a thousand, a hundred thousand and a million waiting tasks.</summary>
    private async Task SizesAsync()
    {
        var database = await DatabaseAsync("sizes");
        using var silo = await SiloAsync("pg", database);
        using var client = await ClientAsync(silo);
        var rates = new Dictionary<string, double>();
        var heaps = new Dictionary<string, double>();
        var filled = 0;
        (string, int)[] sizes = quick ? [("1k", 1_000), ("100k", 100_000)] : [("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000)];
        // What warmed the silo up still waits.
        await ExecuteAsync(database, "delete from grain_state where kind = 'task' and function = 'parked'");
        await ExecuteAsync(database, "vacuum analyze grain_state");
        await SubmitAsync(client, "parked", 1);
        foreach (var (name, size) in sizes)
        {
            var filling = Stopwatch.StartNew();
            await FillAsync(database, filled + 1, size);
            if (size == 100_000)
            {
                Row("fill.pg.rate", (size - filled) / filling.Elapsed.TotalSeconds, "1/s");
            }

            await ExecuteAsync(database, "analyze grain_state");
            filled = size;
            await Task.Delay(6_000);
            await LatencyAsync(client, $"list.pg.{name}", $"{Functions}/parked/async-tasks?limit=20&status=Enqueued");
            await LatencyAsync(client, $"count.pg.{name}", "/v1/functions/parked/counts");
            heaps[name] = await NumberAsync(client, "/bench/heap");
            rates[name] = await EndToEndAsync(client, null);
            Row($"e2e.pg.noop.at.{name}", rates[name], "1/s");
        }

        var last = sizes[^1];
        Row($"flat.pg.{last.Item1}_over_1k", rates[last.Item1] / rates["1k"], "ratio");
        Row("memory.per_waiting", Math.Max(0, heaps[last.Item1] - heaps["1k"]) / (last.Item2 - 1_000), "B");
    }

    /// <summary>Copies the one waiting task in the store's own format, under other ids.</summary>
    private static async Task FillAsync(string database, int from, int to) => await ExecuteAsync(
        database,
        $"""
        insert into grain_state (key, kind, n0, n1, service, version, payload, account, function, task_id, qualifier, status, listed, priority, enqueued_at, wake_at)
        select replace(key, task_id, 'w' || i), kind, n0, n1, service, version, convert_to(replace(convert_from(payload, 'UTF8'), task_id, 'w' || i), 'UTF8'),
            account, function, 'w' || i, qualifier, status, listed, priority, enqueued_at + i, wake_at
        from (select * from grain_state where kind = 'task' and function = 'parked' and task_id not like 'w%' limit 1) s, generate_series({Text(from)}, {Text(to)}) i
        """);

    private async Task LatencyAsync(HttpClient client, string name, string path)
    {
        var times = new List<double>();
        var limit = Stopwatch.StartNew();
        for (var i = 0; i < 210 && limit.Elapsed < TimeSpan.FromSeconds(10); i++)
        {
            var began = Stopwatch.GetTimestamp();
            await client.GetStringAsync(path);
            times.Add(Stopwatch.GetElapsedTime(began).TotalMilliseconds);
        }

        var warm = times.Skip(Math.Min(10, times.Count - 1)).ToList();
        Row($"{name}.p50", Percentile(warm, 50), "ms");
        Row($"{name}.p99", Percentile(warm, 99), "ms");
    }

    private static async Task SubmitAsync(HttpClient client, string function, int count)
    {
        using var content = new StringContent(string.Concat(Enumerable.Repeat("{\"payload\":\"how fast\"}\n", count)), Encoding.UTF8, "application/x-ndjson");
        using var answer = await client.PostAsync($"/v1/functions/{function}/tasks:batch", content);
        var lines = await answer.Content.ReadAsByteArrayAsync();
        if (lines.AsSpan().Count("\"accepted\""u8) != count)
        {
            var wrong = Encoding.UTF8.GetString(lines).Split('\n').FirstOrDefault(line => !line.Contains("\"accepted\"", StringComparison.Ordinal));
            throw new InvalidOperationException($"Not all of {count} tasks were accepted: {answer.StatusCode} {wrong}");
        }
    }

    /// <summary>Runs ended so far, once nothing waits or runs any more.</summary>
    private static async Task<double> EndedAsync(HttpClient client, bool wait)
    {
        var limit = Stopwatch.StartNew();
        while (wait && limit.Elapsed < TimeSpan.FromSeconds(60))
        {
            using var counts = JsonDocument.Parse(await client.GetStringAsync("/v1/functions/noop/counts"));
            if (counts.RootElement.GetProperty("waiting").GetInt64() + counts.RootElement.GetProperty("running").GetInt64() == 0)
            {
                break;
            }

            await Task.Delay(50);
        }

        return await NumberAsync(client, "/bench/ended");
    }

    private static async Task UntilEndedAsync(HttpClient client, double count)
    {
        var limit = Stopwatch.StartNew();
        while (await NumberAsync(client, "/bench/ended") < count)
        {
            if (limit.Elapsed > TimeSpan.FromSeconds(90))
            {
                throw new TimeoutException($"Only {await NumberAsync(client, "/bench/ended")} of {count} runs ended within 90 s.");
            }

            await Task.Delay(20);
        }
    }

    private static async Task<double> NumberAsync(HttpClient client, string path) =>
        double.Parse(await client.GetStringAsync(path), CultureInfo.InvariantCulture);

    private static Uri Invocations(Child silo, string function) => new(silo.Url, $"{Functions}/{function}/invocations");

    private async Task<Child> SiloAsync(string store, string name, bool groupCommit)
    {
        var place = store == "pg" ? await DatabaseAsync(name) : Path.Combine(folder, $"{name}.db");
        return await SiloAsync(store, place, groupCommit ? "true" : "false");
    }

    private async Task<Child> SiloAsync(string store, string place, string groupCommit = "true") => await Child.StartAsync(
        "silo",
        $"--GpuTasks:Gateway:KeysFile={Path.Combine(folder, "keys.json")}",
        $"--GpuTasks:Store:Provider={(store == "pg" ? "PostgreSql" : "Sqlite")}",
        $"--GpuTasks:Store:{(store == "pg" ? "ConnectionString" : "Path")}={place}",
        $"--GpuTasks:Store:GroupCommit={groupCommit}");

    /// <summary>A caller with two functions: one that waits for a card that is not there, one that runs. Both are warm.</summary>
    private async Task<HttpClient> ClientAsync(Child silo)
    {
        var client = Caller(silo);
        await CreateAsync(client, Definition("parked", ""","gpuConfig":{"gpuType":"fc.gpu.tesla.1","gpuMemorySize":16384}"""));
        await CreateAsync(client, Definition("noop", ""","instanceConcurrency":200"""));
        await SubmitAsync(client, "noop", 500);
        await UntilEndedAsync(client, 500);
        // Until its code is compiled for speed, a silo measures the compiler.
        await Wrk.PostAsync(Invocations(silo, "parked"), Script, 64, quick ? 8 : 12);
        return client;

        static string Definition(string name, string more) =>
            $$"""{"functionName":"{{name}}","runtime":"custom-container","handler":"h","cpu":1,"memorySize":1024,"timeout":600,"customContainerConfig":{"image":"none:1"}{{more}}}""";
    }

    private static HttpClient Caller(Child silo)
    {
        var client = new HttpClient { BaseAddress = silo.Url, Timeout = TimeSpan.FromMinutes(2) };
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", ApiKey);
        return client;
    }

    private static async Task CreateAsync(HttpClient client, string definition)
    {
        using var name = JsonDocument.Parse(definition);
        using var body = new StringContent(definition);
        using var created = await client.PostAsync(Functions, body);
        using var config = new StringContent("""{"asyncTask":true}""");
        using var configured = await client.PutAsync($"{Functions}/{name.RootElement.GetProperty("functionName").GetString()}/async-invoke-config", config);
        if (!created.IsSuccessStatusCode || !configured.IsSuccessStatusCode)
        {
            throw new InvalidOperationException(await created.Content.ReadAsStringAsync() + await configured.Content.ReadAsStringAsync());
        }
    }

    internal static HttpRequestMessage Async(string function, string ask, string? id = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, $"{Functions}/{function}/invocations") { Content = new StringContent(ask) };
        request.Headers.Add("x-fc-invocation-type", "Async");
        if (id is not null)
        {
            request.Headers.Add("x-fc-async-task-id", id);
        }

        return request;
    }

    internal static async Task UntilAsync(string what, Func<Task<bool>> condition)
    {
        var limit = Stopwatch.StartNew();
        while (!await condition())
        {
            if (limit.Elapsed > TimeSpan.FromSeconds(90))
            {
                throw new TimeoutException($"{what} did not come within 90 s.");
            }

            await Task.Delay(10);
        }
    }

    private async Task<string> DatabaseAsync(string name)
    {
        var database = $"bench_{name}_{Guid.NewGuid():N}"[..24];
        await ExecuteAsync(postgres, $"create database {database}");
        return new NpgsqlConnectionStringBuilder(postgres) { Database = database }.ConnectionString;
    }

    private static async Task ExecuteAsync(string connectionString, string sql)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 300 };
        await command.ExecuteNonQueryAsync();
    }

    private static double Percentile(List<double> values, int percent)
    {
        values.Sort();
        return values.Count == 0 ? double.NaN : values[Math.Min(values.Count - 1, values.Count * percent / 100)];
    }

    private void Row(string name, double value, string unit, double? floor = null)
    {
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"figure {name} {value:0.###} {unit}"));
        if (floor is { } f)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"figure {name}.over_floor {value / f:0.###} ratio"));
        }

        table.Add((name, string.Create(CultureInfo.InvariantCulture, $"{name,-34}{value,14:#,0.##} {unit,-5}{floor,13:#,0}{(floor is null ? "" : (value / floor.Value).ToString("0.00", CultureInfo.InvariantCulture)),8}")));
    }

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);
}
