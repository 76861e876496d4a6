using System.Diagnostics;
using System.Net;
using System.Text.Json;

namespace GpuTasks.SystemTests;

/// <summary>Silo and gateway in a process of their own, on a data folder that outlives the process.</summary>
internal sealed class Platform : IAsyncDisposable
{
    private static readonly TimeSpan StartPatience = TimeSpan.FromSeconds(60);
    private readonly Dictionary<string, string> settings;
    private readonly string log;
    private Process? process;

    private Platform(string dockerHost, IEnumerable<(string Name, string Value)> more)
    {
        Name = $"system-{Guid.NewGuid().ToString("N")[..8]}";
        Folder = Directory.CreateTempSubdirectory("gputasks-system-").FullName;
        DockerHost = dockerHost;
        Port = Machine.FreePort();
        log = Path.Combine(Folder, "silo.log");
        var keys = Path.Combine(Folder, "keys.json");
        File.WriteAllText(keys, JsonSerializer.Serialize(new
        {
            operatorKey = OperatorKey,
            accounts = new[]
            {
                new { id = "1000000000000001", accessKeys = new[] { new { id = AccessKeyId, secret = AccessKeySecret } }, apiKeys = new[] { ApiKey } },
                new { id = "2000000000000002", accessKeys = new[] { new { id = $"{AccessKeyId}2", secret = AccessKeySecret } }, apiKeys = new[] { $"{ApiKey}-2" } },
            },
        }));
        settings = new Dictionary<string, string>
        {
            ["GpuTasks:DataDirectory"] = Path.Combine(Folder, "data"),
            ["GpuTasks:Name"] = Name,
            ["GpuTasks:Node:Cards"] = "fc.gpu.tesla.1:16384x2",
            ["GpuTasks:Node:Cpus"] = "16",
            ["GpuTasks:Node:MemoryMiB"] = "16384",
            ["GpuTasks:Node:DockerHost"] = dockerHost,
            ["GpuTasks:Node:RelayPath"] = Machine.RelayPath,
            ["GpuTasks:Gateway:KeysFile"] = keys,
            ["GpuTasks:HttpPort"] = Port.ToString(System.Globalization.CultureInfo.InvariantCulture),
        };
        foreach (var (name, value) in more)
        {
            settings[name] = value;
        }

        Client = new Client(new Uri($"http://127.0.0.1:{Port}"), ApiKey);
        Other = new Client(new Uri($"http://127.0.0.1:{Port}"), $"{ApiKey}-2");
    }

    public static string AccessKeyId => "AKsystemtests";

    public static string AccessKeySecret => "systemtestssecret000";

    public static string ApiKey => "key-system-tests";

    public static string OperatorKey => "op-system-tests";

    /// <summary>Node name; its containers carry it as a label.</summary>
    public string Name { get; }

    /// <summary>Folder of everything.</summary>
    public string Folder { get; }

    /// <summary>Engine it uses.</summary>
    public string DockerHost { get; }

    /// <summary>Port of the gateway.</summary>
    public int Port { get; }

    /// <summary>HTTP as the first account.</summary>
    public Client Client { get; }

    /// <summary>HTTP as another account.</summary>
    public Client Other { get; }

    /// <summary>Starts a platform on a fresh folder and waits until it is ready.</summary>
    public static Task<Platform> StartAsync(params (string Name, string Value)[] more) => StartAtAsync(Machine.DockerHost, more);

    /// <summary>Starts a platform on a fresh folder with an engine and waits until it is ready.</summary>
    public static async Task<Platform> StartAtAsync(string dockerHost, params (string Name, string Value)[] more)
    {
        var platform = new Platform(dockerHost, more);
        try
        {
            await platform.StartAgainAsync();
        }
        catch
        {
            await platform.DisposeAsync();
            throw;
        }

        return platform;
    }

    /// <summary>Starts the process on the folder as it is.</summary>
    public async Task StartAgainAsync()
    {
        // A shell puts the output into a file, which lasts and needs no reader, and gives its place to the silo.
        var start = new ProcessStartInfo("/bin/sh", ["-c", "exec \"$@\" >>\"$SILO_LOG\" 2>&1 </dev/null", "sh", "dotnet", Machine.SiloPath, .. settings.Select(setting => $"--{setting.Key}={setting.Value}")]);
        start.Environment["SILO_LOG"] = log;
        process = Process.Start(start)!;
        try
        {
            await Eventually.ComesAsync("readiness", StartPatience, IsReadyAsync, ready => ready);
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"The silo did not become ready. {LogTail()}", e);
        }
    }

    /// <summary>kill -9 of the whole process.</summary>
    public async Task KillAsync()
    {
        process!.Kill();
        await process.WaitForExitAsync();
        process.Dispose();
        process = null;
    }

    /// <summary>SIGSTOP of the whole process for a while.</summary>
    public async Task FreezeAsync(TimeSpan time)
    {
        Signals.Send(process!.Id, Signals.Stop);
        await Task.Delay(time);
        Signals.Send(process.Id, Signals.Continue);
    }

    /// <summary>SIGTERM, and wait for the end.</summary>
    /// <returns>The exit code.</returns>
    public async Task<int> StopAsync()
    {
        Signals.Send(process!.Id, Signals.Terminate);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(40));
        await process.WaitForExitAsync(limit.Token);
        var code = process.ExitCode;
        process.Dispose();
        process = null;
        return code;
    }

    /// <summary>Ids of this platform's containers, running or not.</summary>
    public async Task<string[]> ContainersAsync() =>
        (await Machine.DockerAtAsync(DockerHost, "ps", "-aq", "--no-trunc", "--filter", $"label=gputasks.node={Name}")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>Folders of instances that are on disk.</summary>
    public string[] InstanceFolders()
    {
        var folder = Path.Combine(Folder, "data", "node", "instances");
        return Directory.Exists(folder) ? Directory.GetDirectories(folder) : [];
    }

    /// <summary>What the log says lastly.</summary>
    public string LogTail() => File.Exists(log) ? string.Join('\n', File.ReadLines(log).TakeLast(60)) : "It wrote no log.";

    public async ValueTask DisposeAsync()
    {
        // What a failed test needs to be understood.
        if (TestContext.Current.TestState is { Result: TestResult.Failed })
        {
            TestContext.Current.SendDiagnosticMessage("{0}", LogTail());
        }

        if (process is not null)
        {
            await KillAsync();
        }

        Client.Dispose();
        Other.Dispose();
        var containers = await ContainersAsync();
        if (containers.Length > 0)
        {
            await Machine.DockerAtAsync(DockerHost, ["rm", "-f", .. containers]);
        }

        Directory.Delete(Folder, recursive: true);
    }

    private async Task<bool> IsReadyAsync()
    {
        if (process!.HasExited)
        {
            throw new InvalidOperationException($"The silo ended with code {process.ExitCode}.");
        }

        try
        {
            return await Client.StatusOfAsync("/readyz") == HttpStatusCode.OK;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
