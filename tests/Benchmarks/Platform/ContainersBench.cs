using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>The real silo with its node agent and real containers, on PostgreSQL: rate, start and stop as a caller meets them.</summary>
/// <param name="Docker">Address of the engine.</param>
/// <param name="Relay">The static relay binary.</param>
/// <param name="Silo">The silo's assembly.</param>
internal sealed record Containers(string Docker, string Relay, string Silo)
{
    private const string Image = "gputasks/echo:test";

    /// <summary>What <c>./bench</c> prepared, or null without it.</summary>
    public static Containers? Prepared =>
        Environment.GetEnvironmentVariable("GPUTASKS_TEST_DOCKER") is { Length: > 0 } docker
        && Environment.GetEnvironmentVariable("GPUTASKS_RELAY") is { Length: > 0 } relay
        && Environment.GetEnvironmentVariable("GPUTASKS_SILO") is { Length: > 0 } silo ? new Containers(docker, relay, silo) : null;

    public string Node { get; } = $"bench-{Guid.NewGuid().ToString("N")[..8]}";

    public Task<Child> StartAsync(string folder, string keys, string postgres) => Child.LaunchAsync(
        "dotnet",
        "gateway: ",
        Silo,
        $"--GpuTasks:DataDirectory={Path.Combine(folder, "containers")}",
        $"--GpuTasks:Name={Node}",
        "--GpuTasks:HttpPort=0",
        $"--GpuTasks:Gateway:KeysFile={keys}",
        "--GpuTasks:Store:Provider=PostgreSql",
        $"--GpuTasks:Store:ConnectionString={postgres}",
        "--GpuTasks:Node:Cards=fc.gpu.tesla.1:16384x2",
        "--GpuTasks:Node:Cpus=16",
        "--GpuTasks:Node:MemoryMiB=16384",
        $"--GpuTasks:Node:DockerHost={Docker}",
        $"--GpuTasks:Node:RelayPath={Relay}",
        "--Logging:LogLevel:Default=Warning");

    /// <param name="name">Its name.</param>
    /// <param name="concurrency">Runs at once in one instance.</param>
    /// <param name="more">Further members.</param>
    public static string Definition(string name, int concurrency, string more = "") =>
        $$$"""{"functionName":"{{{name}}}","runtime":"custom-container","handler":"h","cpu":0.5,"memorySize":512,"timeout":600,"idleTimeout":600,"instanceConcurrency":{{{concurrency}}},"customContainerConfig":{"image":"{{{Image}}}","port":9000}{{{more}}}}""";

    /// <summary>Time from the call that stops a run to the end of the function's process.</summary>
    public async Task<double> StopMillisecondsAsync(HttpClient client, string function, string id)
    {
        using var submit = PlatformBench.Async(function, """{"mode":"sleep","seconds":300}""", id);
        (await client.SendAsync(submit)).EnsureSuccessStatusCode();
        var path = $"{PlatformBench.Functions}/{function}/async-tasks/{id}";
        await PlatformBench.UntilAsync($"the run of {id}", async () => (await client.GetStringAsync(path)).Contains("\"status\":\"Running\"", StringComparison.Ordinal));
        var logs = $"/v1/functions/{function}/tasks/{id}/logs";
        await PlatformBench.UntilAsync($"the start of {id}", async () =>
            await client.GetAsync(logs) is { IsSuccessStatusCode: true } log && (await log.Content.ReadAsStringAsync()).Contains("FC Invoke Start", StringComparison.Ordinal));
        var process = await FunctionProcessAsync(function);
        var began = Stopwatch.GetTimestamp();
        var answer = client.PutAsync($"{path}/stop", null);
        var gone = await Task.Run(() => UntilGone(process, began));
        (await answer).EnsureSuccessStatusCode();
        await PlatformBench.UntilAsync($"the end of {id}", async () => (await client.GetStringAsync(path)).Contains("\"status\":\"Stopped\"", StringComparison.Ordinal));
        return gone;
    }

    public async Task RemoveAsync()
    {
        var left = await Child.OutputAsync("docker", "-H", Docker, "ps", "-aq", "--filter", $"label=gputasks.node={Node}");
        if (left.Split('\n', StringSplitOptions.RemoveEmptyEntries) is { Length: > 0 } ids)
        {
            await Child.OutputAsync("docker", ["-H", Docker, "rm", "-f", .. ids]);
        }
    }

    /// <summary>The image's server in the one container of a function, by its number on this machine.</summary>
    private async Task<int> FunctionProcessAsync(string function)
    {
        var container = "";

        // The one of the run before may still be on its way out.
        await PlatformBench.UntilAsync($"one container of {function}", async () => (container = (await Child.OutputAsync(
            "docker", "-H", Docker, "ps", "-q", "--filter", $"label=gputasks.node={Node}", "--filter", $"label=gputasks.function={function}")).Trim()) is { Length: > 0 and < 20 });
        var lines = (await Child.OutputAsync("docker", "-H", Docker, "top", container, "-eo", "pid,comm")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        return int.Parse(lines.Single(line => line.EndsWith("echo", StringComparison.Ordinal)).Trim().Split(' ')[0], CultureInfo.InvariantCulture);
    }

    private static double UntilGone(int process, long began)
    {
        var status = $"/proc/{process.ToString(CultureInfo.InvariantCulture)}/status";
        while (Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(30))
        {
            try
            {
                if (File.ReadAllText(status).Contains("State:\tZ", StringComparison.Ordinal))
                {
                    break;
                }
            }
            catch (IOException)
            {
                break;
            }

            Thread.Sleep(TimeSpan.FromMilliseconds(0.2));
        }

        return Stopwatch.GetElapsedTime(began).TotalMilliseconds;
    }
}

/// <summary>Measures of <see cref="Containers"/>.</summary>
internal sealed partial class PlatformBench
{
    private async Task ContainersAsync()
    {
        if (Containers.Prepared is not { } containers)
        {
            Console.WriteLine("skipped: real containers; ./bench prepares an engine, a relay and an image");
            return;
        }

        try
        {
            using var silo = await containers.StartAsync(folder, Path.Combine(folder, "keys.json"), await DatabaseAsync("containers"));
            using var client = Caller(silo);
            // As many instances as there are cards; the other function needs none.
            await CreateAsync(client, Containers.Definition("echo", 100, ""","gpuConfig":{"gpuType":"fc.gpu.tesla.1","gpuMemorySize":16384}"""));
            await CreateAsync(client, Containers.Definition("stops", 1));
            await SubmitAsync(client, "echo", 500);
            await UntilDoneAsync(client, "echo", 500);
            var done = 500;
            var watch = Stopwatch.StartNew();
            while (watch.Elapsed < Warm)
            {
                await SubmitAsync(client, "echo", 500);
                await UntilDoneAsync(client, "echo", done += 500);
            }

            // For some seconds, however slow the machine is just now.
            var count = Math.Clamp((int)((done - 500) / watch.Elapsed.TotalSeconds * Seconds / 250) * 500, 500, 10_000);
            watch.Restart();
            for (var sent = 0; sent < count; sent += 500)
            {
                await SubmitAsync(client, "echo", 500);
            }

            await UntilDoneAsync(client, "echo", done + count);
            Row("e2e.pg.container.rate", count / watch.Elapsed.TotalSeconds, "1/s");

            var starts = new List<double>();
            for (var i = 0; i < (quick ? 60 : 200); i++)
            {
                var sent = Stopwatch.GetTimestamp();
                using var request = Async("echo", """{"mode":"clock"}""", $"clock-{i}");
                (await client.SendAsync(request)).EnsureSuccessStatusCode();
                var result = $"/v1/functions/echo/tasks/clock-{i}/result";
                await UntilAsync(result, async () => (await client.GetAsync(result)).IsSuccessStatusCode);
                using var answer = JsonDocument.Parse(await client.GetStringAsync(result));
                starts.Add(Stopwatch.GetElapsedTime(sent, answer.RootElement.GetProperty("at").GetInt64()).TotalMilliseconds);
            }

            Row("idle.pg.container.start.p50", Percentile(starts, 50), "ms");
            Row("idle.pg.container.start.p99", Percentile(starts, 99), "ms");

            var stops = new List<double>();
            for (var i = 0; i < (quick ? 10 : 25); i++)
            {
                stops.Add(await containers.StopMillisecondsAsync(client, "stops", $"stop-{i}"));
            }

            stops.RemoveRange(0, 4);
            Row("cancel.p50", Percentile(stops, 50), "ms");
            Row("cancel.p99", Percentile(stops, 99), "ms");
        }
        finally
        {
            await containers.RemoveAsync();
        }
    }

    private static async Task UntilDoneAsync(HttpClient client, string function, long count) => await UntilAsync($"the end of {count} tasks", async () =>
    {
        // Counting costs as much as some runs.
        await Task.Delay(20);
        using var counts = JsonDocument.Parse(await client.GetStringAsync($"/v1/functions/{function}/counts"));
        return counts.RootElement.GetProperty("done").GetInt64() >= count;
    });
}
