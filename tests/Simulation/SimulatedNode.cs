using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Simulation;

/// <summary>
/// A machine with cards and containers that follows the node's rules: an order is refused when the lease is over or
/// older than the last directive; no container starts where its cards are not proved free; what the directive does not
/// name leaves, in its own time. With <paramref name="fenced"/> false it starts whatever it is told to.
/// </summary>
public sealed class SimulatedNode(string name, IReadOnlyList<CardReport> cards, bool fenced, Random random)
{
    private readonly Dictionary<string, (Lease Lease, bool Leaving)> containers = [];
    private readonly HashSet<string> released = [];

    /// <summary>Leases that are over here; none of them starts again, however late its order comes.</summary>
    private readonly HashSet<string> over = [];
    private HashSet<string> leased = [];
    private long epoch;
    private int boots = 1;

    public string Name => name;

    /// <summary>False while the machine is off.</summary>
    public bool Alive { get; private set; } = true;

    /// <summary>False while nobody reaches it, though its containers run on.</summary>
    public bool Connected { get; set; } = true;

    /// <summary>What truly runs.</summary>
    public IEnumerable<Lease> Running => containers.Values.Select(c => c.Lease);

    /// <summary>Leases whose containers are proved gone and whose release is still to be told.</summary>
    public IEnumerable<string> ToRelease => released;

    public NodeReport Report() => new()
    {
        Node = name,
        BootId = $"boot-{boots}",
        CpuMilli = 64_000,
        MemoryMiB = 262_144,
        DiskMiB = 1_000_000,
        Cards = cards,
        Instances = [.. containers.Keys],
        Adopted = true,
    };

    public LaunchOutcome Launch(Lease lease)
    {
        if (containers.ContainsKey(lease.InstanceId))
        {
            return LaunchOutcome.Accepted;
        }

        if (fenced)
        {
            if (over.Contains(lease.InstanceId) || (lease.NodeEpoch <= epoch && !leased.Contains(lease.InstanceId)))
            {
                return LaunchOutcome.StaleLease;
            }

            foreach (var share in lease.Cards)
            {
                var holders = Running.Where(l => l.Cards.Any(c => c.Uuid == share.Uuid)).ToList();
                var used = holders.SelectMany(l => l.Cards).Where(c => c.Uuid == share.Uuid).Sum(c => c.MemoryMiB);
                if (holders.Any(l => l.Account != lease.Account) || used + share.MemoryMiB > cards.First(c => c.Uuid == share.Uuid).MemoryMiB)
                {
                    return LaunchOutcome.Busy;
                }
            }
        }

        containers.Add(lease.InstanceId, (lease, false));
        return LaunchOutcome.Accepted;
    }

    /// <summary>Asks for an end; one that was never launched is over at once.</summary>
    public void Stop(string instance)
    {
        if (containers.TryGetValue(instance, out var container))
        {
            containers[instance] = container with { Leaving = true };
        }
        else
        {
            released.Add(instance);
            over.Add(instance);
        }
    }

    public void Follow(NodeDirective directive)
    {
        if (fenced && directive.NodeEpoch < epoch)
        {
            return;
        }

        epoch = directive.NodeEpoch;
        leased = [.. directive.Leases.Select(l => l.InstanceId)];
        foreach (var (id, container) in containers.ToList())
        {
            if (!leased.Contains(id) && container.Lease.NodeEpoch <= directive.NodeEpoch)
            {
                containers[id] = container with { Leaving = true };
            }
        }
    }

    /// <summary>Time passes: containers that are leaving leave, some end by themselves.</summary>
    public void Live()
    {
        foreach (var (id, container) in containers.ToList())
        {
            if (Alive && random.Next(container.Leaving ? 3 : 200) == 0)
            {
                containers.Remove(id);
                released.Add(id);
                over.Add(id);
            }
        }
    }

    /// <summary>A release was told. Repeats are told again while the lease is named.</summary>
    public void Told(string instance)
    {
        if (!leased.Contains(instance))
        {
            released.Remove(instance);
        }
    }

    public void PowerOff()
    {
        Alive = false;
        containers.Clear();
    }

    public void PowerOn()
    {
        Alive = true;
        boots++;
    }
}
