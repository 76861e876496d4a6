using System.Globalization;
using System.Net;
using System.Text.Json;

namespace GpuTasks.SystemTests;

/// <summary>
/// A whole cluster of processes on one machine: PostgreSQL, control silos and gateways at the centre of a small network,
/// and nodes behind links of their own, each with its own Docker Engine.
/// </summary>
internal sealed class Lab : IAsyncDisposable
{
    /// <summary>Below those that the kernel gives out, so that it is free again whenever the receiver comes back.</summary>
    private const int ReceiverPort = 11_000;

    private static readonly TimeSpan StartPatience = TimeSpan.FromMinutes(2);
    private readonly List<string> engineFolders = [];
    private readonly List<int> gatewayPorts = [];
    private int silos;

    private Lab(string id)
    {
        Id = id;
        Folder = Directory.CreateTempSubdirectory($"gputasks-lab-{id}-").FullName;
        File.WriteAllText(Path.Combine(Folder, "owner"), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>Tells labs apart.</summary>
    public string Id { get; }

    /// <summary>Folder of all members.</summary>
    public string Folder { get; }

    public Network Network { get; private set; } = null!;

    public PostgresServer Postgres { get; private set; } = null!;

    /// <summary>Hears of ends by HTTP, at the centre.</summary>
    public WebhookReceiver Receiver { get; private set; } = null!;

    public List<Member> Controls { get; } = [];

    public List<Member> Nodes { get; } = [];

    public List<Member> Gateways { get; } = [];

    /// <summary>Engines, in the order of <see cref="Nodes"/>.</summary>
    public List<string> Engines { get; } = [];

    /// <summary>The first account at each gateway.</summary>
    public List<Client> Clients { get; } = [];

    /// <summary>Another account, and the operator, at the first gateway.</summary>
    public Client Other { get; private set; } = null!;

    public Client Operator { get; private set; } = null!;

    /// <summary>Everybody.</summary>
    public IEnumerable<Member> Members => [.. Controls, .. Nodes, .. Gateways];

    /// <summary>Starts a cluster and waits until every gateway is ready and every node takes launches.</summary>
    public static async Task<Lab> StartAsync(int controls = 3, int nodes = 2, int gateways = 2, params (string Name, string Value)[] more)
    {
        Assert.SkipUnless(Environment.UserName == "root", "Only root can make networks and start engines.");
        await CleanAsync();
        var lab = new Lab(Guid.NewGuid().ToString("N")[..5]);
        try
        {
            await lab.MakeAsync(controls, nodes, gateways, more);
            await lab.ReadyAsync();
            return lab;
        }
        catch
        {
            lab.KeepLogs();
            await lab.DisposeAsync();
            throw;
        }
    }

    /// <summary>Takes away what is left of a lab whose process was killed.</summary>
    public static async Task CleanAsync()
    {
        foreach (var folder in Directory.EnumerateDirectories(Path.GetTempPath(), "gputasks-lab-*"))
        {
            var owner = Path.Combine(folder, "owner");
            if (!File.Exists(owner) || !int.TryParse(await File.ReadAllTextAsync(owner), NumberStyles.None, CultureInfo.InvariantCulture, out var process) || Signals.Lives(process))
            {
                continue;
            }

            foreach (var running in System.Diagnostics.Process.GetProcesses())
            {
                using (running)
                {
                    try
                    {
                        if ((await File.ReadAllTextAsync($"/proc/{running.Id}/cmdline")).Contains($"{folder}/", StringComparison.Ordinal))
                        {
                            Signals.Send(running.Id, Signals.Continue);
                            Signals.Send(running.Id, Signals.Kill);
                        }
                    }
                    catch (IOException)
                    {
                        // It ended meanwhile.
                    }
                }
            }

            foreach (var engine in Directory.EnumerateDirectories(folder, "engine-*"))
            {
                await Machine.RunAsync(EngineScript, ["stop", engine], TimeSpan.FromMinutes(1));
            }

            await UnmountAsync(folder);
            await Network.ForgetAsync(Path.GetFileName(folder).Split('-')[2]);
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Waits until every gateway answers and every node is seen and has adopted.</summary>
    public async Task ReadyAsync()
    {
        foreach (var client in Clients)
        {
            await Eventually.ComesAsync("a ready gateway", StartPatience, () => IsReadyAsync(client), ready => ready);
        }

        await Eventually.ComesAsync("all nodes", StartPatience, OpenNodesAsync, count => count == Nodes.Count);
    }

    /// <summary>Fills a node's disk to the last byte, or makes room again.</summary>
    public async Task FillDiskAsync(int node, bool full)
    {
        var filler = Path.Combine(Folder, Nodes[node].Name, "filler");
        if (!full)
        {
            File.Delete(filler);
            return;
        }

        // Without a buffer, which would have to be emptied onto the full disk in the end.
        await using var file = new FileStream(filler, FileMode.Create, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        var block = new byte[64 << 10];
        for (var size = block.Length; size > 0;)
        {
            try
            {
                await file.WriteAsync(block.AsMemory(0, size));
            }
            catch (IOException)
            {
                size /= 2;
            }
        }
    }

    /// <summary>Folder in which a node keeps its instances.</summary>
    public string InstancesOf(int node) => Path.Combine(Folder, Nodes[node].Name, "node", "instances");

    /// <summary>Stops a node's engine by <c>kill -9</c> and starts it again.</summary>
    public async Task KillEngineAsync(int node, bool containerdToo)
    {
        var run = Path.GetDirectoryName(new Uri(Engines[node]).LocalPath)!;
        foreach (var file in containerdToo ? new[] { "dockerd.pid", "exec/containerd/containerd.pid" } : ["dockerd.pid"])
        {
            Signals.Send(int.Parse(await File.ReadAllTextAsync(Path.Combine(run, file)), CultureInfo.InvariantCulture), Signals.Kill);
        }

        await StartEngineAsync(node);
    }

    /// <summary>SIGTERM to a node's engine, and a new one.</summary>
    public async Task RestartEngineAsync(int node)
    {
        var run = Path.GetDirectoryName(new Uri(Engines[node]).LocalPath)!;
        var id = int.Parse(await File.ReadAllTextAsync(Path.Combine(run, "dockerd.pid")), CultureInfo.InvariantCulture);
        Signals.Send(id, Signals.Terminate);
        for (var patience = DateTime.UtcNow.AddSeconds(30); DateTime.UtcNow < patience && Signals.Lives(id);)
        {
            await Task.Delay(50);
        }

        await StartEngineAsync(node);
    }

    /// <summary>Names of the containers on a node, running or not.</summary>
    public async Task<string[]> ContainersAsync(int node) =>
        (await Machine.DockerAtAsync(Engines[node], "ps", "-a", "--format", "{{.Names}}")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>The control silo in which the region's leases are decided, by what the silos say in their logs.</summary>
    public Member RegionHolder()
    {
        // The highest term is the latest take-over.
        return Controls.MaxBy(silo => File.ReadLines(silo.Log)
            .Select(line => System.Text.RegularExpressions.Regex.Match(line, @"Region \S+ taken over in term (\d+)"))
            .Where(match => match.Success)
            .Select(match => long.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture))
            .DefaultIfEmpty(-1)
            .Max())!;
    }

    /// <summary>What members said of a request that failed: the line with its id, and the beginning of the exception after it.</summary>
    public IEnumerable<string> SaidOf(string requestId) =>
        Members.Where(member => File.Exists(member.Log)).SelectMany(member => File.ReadLines(member.Log).SkipWhile(line => !line.Contains(requestId, StringComparison.Ordinal)).Take(12));

    /// <summary>Keeps what every member said, if somebody wants to understand it.</summary>
    public void KeepLogs()
    {
        if (Environment.GetEnvironmentVariable("GPUTASKS_KEEP_LOGS") is { Length: > 0 } place)
        {
            Directory.CreateDirectory(place);
            foreach (var member in Members.Where(member => File.Exists(member.Log)))
            {
                File.Copy(member.Log, Path.Combine(place, $"{Id}-{Path.GetFileName(member.Log)}"), overwrite: true);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        KeepLogs();
        foreach (var client in (IEnumerable<Client?>)[.. Clients, Other, Operator])
        {
            client?.Dispose();
        }

        await Task.WhenAll(Members.Select(member => member.DisposeAsync().AsTask()));
        foreach (var folder in engineFolders)
        {
            await Machine.RunAsync(EngineScript, ["stop", folder], TimeSpan.FromMinutes(2));
        }

        await UnmountAsync(Folder);
        Receiver?.Dispose();
        if (Postgres is not null)
        {
            await Postgres.DisposeAsync();
        }

        if (Network is not null)
        {
            await Network.DisposeAsync();
        }

        Directory.Delete(Folder, recursive: true);
    }

    private static async Task UnmountAsync(string folder)
    {
        foreach (var line in await File.ReadAllLinesAsync("/proc/mounts"))
        {
            if (line.Split(' ') is ["tmpfs", var disk, ..] && disk.StartsWith($"{folder}/node-", StringComparison.Ordinal))
            {
                await Machine.RunAsync("umount", ["-l", disk], TimeSpan.FromSeconds(10));
            }
        }
    }

    private static string EngineScript => Path.Combine(Machine.Root, "deploy/docker/engine.sh");

    private async Task MakeAsync(int controls, int nodes, int gateways, (string Name, string Value)[] more)
    {
        Network = await Network.MakeAsync(Id, nodes);
        Receiver = new WebhookReceiver(Network.Centre, ReceiverPort);
        Receiver.Start();
        var image = Path.Combine(Folder, "echo.tar");
        var engines = MakeEnginesAsync(nodes, image);
        Postgres = await PostgresServer.MakeAsync(Network.Centre, Network.FreePort(), $"gputasks-lab-{Id}-postgres-");
        var keys = Path.Combine(Folder, "keys.json");
        await File.WriteAllTextAsync(keys, JsonSerializer.Serialize(new
        {
            operatorKey = Platform.OperatorKey,
            accounts = new[]
            {
                new { id = "1000000000000001", accessKeys = Array.Empty<object>(), apiKeys = new[] { Platform.ApiKey } },
                new { id = "2000000000000002", accessKeys = Array.Empty<object>(), apiKeys = new[] { $"{Platform.ApiKey}-2" } },
            },
        }));
        for (var n = 1; n <= controls; n++)
        {
            Controls.Add(Make($"control-{n}", "control", [], Network.Centre, [], more));
        }

        for (var n = 1; n <= gateways; n++)
        {
            gatewayPorts.Add(Machine.FreePort());
            Gateways.Add(Make($"gateway-{n}", "gateway", [], Network.Centre, [("HttpPort", gatewayPorts[^1].ToString(CultureInfo.InvariantCulture)), ("Gateway:KeysFile", keys)], more));
            Clients.Add(new Client(new Uri($"http://127.0.0.1:{gatewayPorts[^1]}"), Platform.ApiKey) { Patient = true });
        }

        Other = new Client(new Uri($"http://127.0.0.1:{gatewayPorts[0]}"), $"{Platform.ApiKey}-2") { Patient = true };
        Operator = new Client(new Uri($"http://127.0.0.1:{gatewayPorts[^1]}"), Platform.OperatorKey) { Patient = true };

        // One makes the schema before the others ask for it; they would wait for its lock anyway.
        foreach (var member in Controls.Concat(Gateways))
        {
            member.Start();
        }

        await engines;
        for (var n = 1; n <= nodes; n++)
        {
            // A disk of its own, which can be filled.
            var disk = Directory.CreateDirectory(Path.Combine(Folder, $"node-{Id}-{n}")).FullName;
            await Machine.RunAsync("mount", ["-t", "tmpfs", "-o", "size=768m", "tmpfs", disk], TimeSpan.FromSeconds(10));
            Nodes.Add(Make($"node-{Id}-{n}", "node", Network.On(n), Network.AddressOf(n),
            [
                ("Node:DockerHost", Engines[n - 1]),
                ("Node:RelayPath", Machine.RelayPath),
                ("Node:Cards", "fc.gpu.tesla.1:16384x2"),
                ("Node:Cpus", "16"),
                ("Node:MemoryMiB", "16384"),
                ("Node:DiskMiB", "65536"),
            ], more));
            Nodes[^1].Start();
        }
    }

    private Member Make(string name, string role, string[] before, string address, (string Name, string Value)[] own, (string Name, string Value)[] more)
    {
        var folder = Path.Combine(Folder, name);
        Directory.CreateDirectory(folder);
        (string Name, string Value)[] settings =
        [
            .. more,
            .. own,
            ("Roles", role),
            ("Name", name),
            ("ClusterId", $"lab-{Id}"),
            ("DataDirectory", folder),
            ("SiloAddress", address),
            ("HttpPort", "0"),

            // Of its own and the same in every life, as on a machine of its own: so it knows which entry of the members is its past.
            ("SiloPort", (11_000 + (10 * ++silos)).ToString(CultureInfo.InvariantCulture)),
            ("ClientPort", (11_001 + (10 * silos)).ToString(CultureInfo.InvariantCulture)),
            ("Store:Provider", "PostgreSql"),
            ("Store:ConnectionString", Postgres.ConnectionString),
            ("Store:UseStoreClustering", "true"),
            ("Webhooks:AllowHttp", "true"),
            ("Webhooks:AllowedRanges:0", $"{Network.Centre}/32"),
        ];
        return new Member(name, Path.Combine(Folder, $"{name}.log"),
            [.. before, "dotnet", Machine.SiloPath, .. settings.DistinctBy(setting => setting.Name).Select(setting => $"--GpuTasks:{setting.Name}={setting.Value}"),
                "--Logging:Console:FormatterName=simple", "--Logging:Console:FormatterOptions:SingleLine=false", "--Logging:Console:FormatterOptions:TimestampFormat=HH:mm:ss.fff "]);
    }

    private async Task MakeEnginesAsync(int nodes, string image)
    {
        await Machine.DockerAsync("save", "-o", image, Machine.EchoImage);
        for (var n = 0; n < nodes; n++)
        {
            engineFolders.Add(Path.Combine(Folder, $"engine-{n + 1}"));
            await StartEngineAsync(n);
            await Machine.DockerAtAsync(Engines[n], "load", "-i", image);
        }
    }

    private async Task StartEngineAsync(int node)
    {
        var (program, before) = (Network.On(node + 1)[0], Network.On(node + 1)[1..]);
        var (code, output) = await Machine.RunAsync(program, [.. before, EngineScript, "start", engineFolders[node]], TimeSpan.FromMinutes(1));
        if (code != 0)
        {
            throw new InvalidOperationException($"engine.sh start: {output}");
        }

        if (Engines.Count == node)
        {
            Engines.Add(output.Trim().Split('\n')[^1]);
        }
    }

    private static async Task<bool> IsReadyAsync(Client client)
    {
        try
        {
            return await client.StatusOfAsync("/readyz") == HttpStatusCode.OK;
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            return false;
        }
    }

    private async Task<int> OpenNodesAsync()
    {
        var answer = await Operator.SendAsync(HttpMethod.Get, "/v1/nodes");
        return answer.Status == HttpStatusCode.OK
            ? answer.Json["nodes"]!.AsArray().Count(node => (bool)node!["reachable"]! && (bool)node["adopted"]!)
            : -1;
    }
}
