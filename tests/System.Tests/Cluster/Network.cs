using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace GpuTasks.SystemTests;

/// <summary>
/// A small network inside this machine: a bridge, and machines of their own namespaces behind it, each of which can be cut
/// off by taking its link down. Needs root and iproute2.
/// </summary>
internal sealed class Network : IAsyncDisposable
{
    private readonly string id;
    private readonly int subnet;
    private readonly int machines;

    private Network(string id, int subnet, int machines)
    {
        this.id = id;
        this.subnet = subnet;
        this.machines = machines;
    }

    /// <summary>Address of whatever runs outside of the namespaces.</summary>
    public string Centre => AddressOf(0);

    private string Bridge => $"gt{id}b";

    /// <summary>Makes the bridge and so many machines, numbered from 1.</summary>
    public static async Task<Network> MakeAsync(string id, int machines)
    {
        var taken = (await RunAsync("-o", "-4", "addr", "show")).Split('\n');
        var subnet = Enumerable.Range(Environment.ProcessId % 200, 200)
            .Select(n => n % 200)
            .First(n => !taken.Any(line => line.Contains($" 10.213.{n}.", StringComparison.Ordinal)));
        var network = new Network(id, subnet, machines);
        try
        {
            await RunAsync("link", "add", network.Bridge, "type", "bridge");
            await RunAsync("addr", "add", $"{network.Centre}/24", "dev", network.Bridge);
            await RunAsync("link", "set", network.Bridge, "up");
            for (var n = 1; n <= machines; n++)
            {
                var space = network.SpaceOf(n);
                await RunAsync("netns", "add", space);
                await RunAsync("link", "add", network.CableOf(n), "type", "veth", "peer", "name", "eth0", "netns", space);
                await RunAsync("link", "set", network.CableOf(n), "master", network.Bridge, "up");
                await RunAsync("-n", space, "addr", "add", $"{network.AddressOf(n)}/24", "dev", "eth0");
                await RunAsync("-n", space, "link", "set", "eth0", "up");
                await RunAsync("-n", space, "link", "set", "lo", "up");
            }

            return network;
        }
        catch
        {
            await network.DisposeAsync();
            throw;
        }
    }

    /// <summary>Address of a machine.</summary>
    public string AddressOf(int machine) => string.Create(CultureInfo.InvariantCulture, $"10.213.{subnet}.{machine + 1}");

    /// <summary>What stands before a command to run it on a machine. Only the network is the machine's own: files and control groups are needed by an engine.</summary>
    public string[] On(int machine) => ["nsenter", $"--net=/run/netns/{SpaceOf(machine)}"];

    /// <summary>Takes a machine's link down or up.</summary>
    public Task SetLinkAsync(int machine, bool up) => RunAsync("link", "set", CableOf(machine), up ? "up" : "down");

    /// <summary>A port that nobody listens on at the centre.</summary>
    public int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Parse(Centre), 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Takes away what is left of a network whose process was killed.</summary>
    public static async Task ForgetAsync(string id) => await new Network(id, 0, 9).DisposeAsync();

    public async ValueTask DisposeAsync()
    {
        for (var n = 1; n <= machines; n++)
        {
            if (File.Exists($"/run/netns/{SpaceOf(n)}"))
            {
                await Machine.RunAsync("ip", ["link", "del", CableOf(n)], TimeSpan.FromSeconds(20));
                await Machine.RunAsync("ip", ["netns", "del", SpaceOf(n)], TimeSpan.FromSeconds(20));
            }
        }

        await Machine.RunAsync("ip", ["link", "del", Bridge], TimeSpan.FromSeconds(20));
    }

    private string SpaceOf(int machine) => string.Create(CultureInfo.InvariantCulture, $"gt{id}n{machine}");

    private string CableOf(int machine) => string.Create(CultureInfo.InvariantCulture, $"gt{id}v{machine}");

    private static async Task<string> RunAsync(params string[] arguments)
    {
        var (code, output) = await Machine.RunAsync("ip", arguments, TimeSpan.FromSeconds(20));
        return code == 0 ? output : throw new InvalidOperationException($"ip {string.Join(' ', arguments)}: {output}");
    }
}
