using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Containers;

/// <summary>A lease that has had its instance, or was given back without one.</summary>
internal sealed record EndedLease(string InstanceId, DateTimeOffset EndedAt);

/// <summary>What a node must not forget in order to refuse what is old.</summary>
internal sealed record LedgerState
{
    /// <summary>How often the agent has started here.</summary>
    public long Starts { get; init; }

    /// <summary>Fencing number of the last directive.</summary>
    public long NodeEpoch { get; init; }

    /// <summary>Leases of the last directive.</summary>
    public IReadOnlyList<string> Leases { get; init; } = [];

    /// <summary>Leases that are over; none of them starts again.</summary>
    public IReadOnlyList<EndedLease> Ended { get; init; } = [];
}

/// <summary>The fencing rules. No I/O.</summary>
internal static class Fencing
{
    private static readonly TimeSpan Memory = TimeSpan.FromMinutes(10);
    private const int MemoryLimit = 10_000;

    /// <summary>True when the lease is over, as far as the node knows.</summary>
    public static bool IsStale(LedgerState state, Lease lease) =>
        IsEnded(state, lease.InstanceId)
        // The last directive was whole up to its number: a lease of that time that it does not name has been taken back.
        || (lease.NodeEpoch <= state.NodeEpoch && !state.Leases.Contains(lease.InstanceId));

    public static bool IsEnded(LedgerState state, string instanceId) => state.Ended.Any(lease => lease.InstanceId == instanceId);

    /// <summary>Notes that a lease is over.</summary>
    public static LedgerState End(LedgerState state, string instanceId, DateTimeOffset now) => IsEnded(state, instanceId)
        ? state
        : state with { Ended = [.. state.Ended.TakeLast(MemoryLimit - 1), new EndedLease(instanceId, now)] };

    /// <summary>Takes a directive over; an older one than the last changes nothing.</summary>
    public static LedgerState Apply(LedgerState state, NodeDirective directive, DateTimeOffset now)
    {
        if (directive.NodeEpoch < state.NodeEpoch)
        {
            return state;
        }

        var leases = directive.Leases.Select(lease => lease.InstanceId).Order(StringComparer.Ordinal).ToList();
        // From here on the number alone refuses it; the pause covers an answer that was on its way when the lease ended.
        var ended = state.Ended.Where(lease => leases.Contains(lease.InstanceId) || now - lease.EndedAt < Memory).ToList();
        return directive.NodeEpoch == state.NodeEpoch && ended.Count == state.Ended.Count && leases.SequenceEqual(state.Leases)
            ? state
            : state with { NodeEpoch = directive.NodeEpoch, Leases = leases, Ended = ended };
    }
}

/// <summary>The fencing state and its file.</summary>
internal sealed class NodeLedger
{
    private readonly Lock gate = new();
    private readonly string path;
    private LedgerState state;
    private long version;

    public NodeLedger(string dataDirectory)
    {
        path = Path.Combine(dataDirectory, "epochs.json");
        state = DiskFiles.Load<LedgerState>(path) ?? new LedgerState();
        state = state with { Starts = state.Starts + 1 };
        DiskFiles.Save(path, state);
        version = state.Starts << 40; // Grows over restarts, whatever the clock does.
    }

    /// <summary>The state as it is.</summary>
    public LedgerState State
    {
        get
        {
            lock (gate)
            {
                return state;
            }
        }
    }

    /// <summary>A number above all earlier ones, over restarts too.</summary>
    public long NextVersion() => Interlocked.Increment(ref version);

    /// <summary>Changes the state; it is on disk when this returns.</summary>
    public LedgerState Change(Func<LedgerState, LedgerState> change)
    {
        lock (gate)
        {
            var next = change(state);
            if (!ReferenceEquals(next, state))
            {
                DiskFiles.Save(path, next);
                state = next;
            }

            return state;
        }
    }
}
