using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Simulation;

/// <summary>How the queue is worked off.</summary>
public enum Discipline
{
    /// <summary>Nobody starts before the one who came before.</summary>
    StrictFifo,

    /// <summary>Whoever fits starts; nothing is kept for anybody.</summary>
    Greedy,

    /// <summary>As the region does it.</summary>
    Ours,
}

/// <summary>One kind of task in the stream.</summary>
/// <param name="Function">Name.</param>
/// <param name="GpuMiB">GPU memory, on cards of 16,384 MiB.</param>
/// <param name="Limit">Longest run, which is declared; runs last between a tenth of it and all of it.</param>
/// <param name="Weight">Part of the arrivals.</param>
public sealed record TaskKind(string Function, int GpuMiB, TimeSpan Limit, double Weight);

/// <summary>What came of a run.</summary>
/// <param name="Utilisation">Share of card time used between the first and the last arrival.</param>
/// <param name="Waits">Waiting times by kind, in seconds, ascending.</param>
public sealed record QueueResult(double Utilisation, IReadOnlyDictionary<string, IReadOnlyList<double>> Waits)
{
    /// <summary>The wait that so many of a hundred tasks of a kind did not exceed.</summary>
    public double Wait(string function, int percent) =>
        Waits[function] is { Count: > 0 } waits ? waits[Math.Min(waits.Count - 1, waits.Count * percent / 100)] : 0;
}

/// <summary>Streams of tasks through a region under a virtual clock; one instance for each task.</summary>
public static class QueueRun
{
    private const int CardMiB = 16_384;

    /// <summary>Tasks of all sizes with some gangs of eight cards, as the research mixed them.</summary>
    public static IReadOnlyList<TaskKind> Mixed { get; } =
    [
        new("slice", CardMiB / 4, TimeSpan.FromHours(1), 0.40),
        new("half", CardMiB / 2, TimeSpan.FromHours(1), 0.22),
        new("card", CardMiB, TimeSpan.FromHours(2), 0.35),
        new("gang", 8 * CardMiB, TimeSpan.FromHours(2), 0.03),
    ];

    /// <summary>A stream of single cards that a gang can hardly pass.</summary>
    public static IReadOnlyList<TaskKind> Adversarial { get; } =
    [
        new("card", CardMiB, TimeSpan.FromMinutes(10), 0.999),
        new("gang", 8 * CardMiB, TimeSpan.FromMinutes(10), 0.001),
    ];

    /// <summary>Runs a stream.</summary>
    /// <param name="kinds">Kinds of tasks.</param>
    /// <param name="discipline">Who is next.</param>
    /// <param name="load">Arriving card time against what the nodes can give.</param>
    /// <param name="nodes">Nodes of eight cards.</param>
    /// <param name="arrivals">Number of tasks.</param>
    /// <param name="seed">The same seed gives the same stream to every discipline.</param>
    public static QueueResult Run(IReadOnlyList<TaskKind> kinds, Discipline discipline, double load, int nodes, int arrivals, int seed)
    {
        var random = new Random(seed);
        var start = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
        var meanCardSeconds = kinds.Sum(k => k.Weight * k.GpuMiB / CardMiB * k.Limit.TotalSeconds * 0.55);
        var meanGap = meanCardSeconds / (load * nodes * 8);
        var never = TimeSpan.FromDays(3_650);
        var number = 0;
        var rules = new RegionRules
        {
            DefaultQuotaMilliCards = int.MaxValue,
            NodeSilence = never,
            DemandLapse = never,
            LaunchGrace = never,
            ReservationsPerType = discipline == Discipline.Ours ? 4 : 0,
            YieldingFor = 0,
        };
        var region = new RegionTable(rules, new FragmentationDescent(new ShapeMix()), _ => $"i-{++number}", start);
        for (var n = 0; n < nodes; n++)
        {
            region.Load(new LeaseTable { Node = $"n{n:d5}" });
            region.Report(Machine($"n{n:d5}", 8), start);
        }

        var waiting = kinds.ToDictionary(k => k.Function, _ => new Queue<(DateTimeOffset At, TimeSpan Length)>());
        var waits = kinds.ToDictionary(k => k.Function, _ => new List<double>());
        var ends = new PriorityQueue<Lease, DateTimeOffset>();
        var runs = new List<(DateTimeOffset From, DateTimeOffset To, int MilliCards)>();
        var (now, arrived) = (start, 0);
        var nextArrival = start;
        var horizon = start;
        while (arrived < arrivals || ends.Count > 0)
        {
            if (arrived < arrivals && (!ends.TryPeek(out _, out var end) || nextArrival <= end))
            {
                now = nextArrival;
                var kind = Pick(kinds, random);
                var length = kind.Limit * (0.1 + (0.9 * random.NextDouble()));
                waiting[kind.Function].Enqueue((now, length));
                arrived++;
                horizon = now;
                nextArrival = now + TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) * meanGap);
                State(kind);
            }
            else if (ends.TryDequeue(out var lease, out var at))
            {
                now = at;
                region.Release(lease.Node, lease.InstanceId, now);
            }

            Take();
        }

        // Only what lies between the first and the last arrival counts: afterwards the cards empty whoever is next.
        var used = runs.Where(r => r.From < horizon).Sum(r => ((r.To < horizon ? r.To : horizon) - r.From).TotalSeconds * r.MilliCards / 1_000);
        return new QueueResult(used / ((horizon - start).TotalSeconds * nodes * 8), waits.ToDictionary(w => w.Key, w => (IReadOnlyList<double>)[.. w.Value.Order()]));

        void State(TaskKind kind)
        {
            var queue = waiting[kind.Function];
            var more = queue.Count;
            if (discipline == Discipline.StrictFifo && more > 0)
            {
                // Only the head of all queues may ask, for itself.
                more = kinds.All(k => waiting[k.Function].Count == 0 || waiting[k.Function].Peek().At >= queue.Peek().At) ? 1 : 0;
            }

            region.State(
                new CapacityDemand
                {
                    Account = "a",
                    Function = kind.Function,
                    Shape = new InstanceShape("t4", kind.GpuMiB, 0, 0, 0),
                    MoreInstances = more,
                    OldestWaitingSince = queue.Count > 0 ? queue.Peek().At : null,
                    RunLimit = kind.Limit,
                },
                now);
        }

        void Take()
        {
            for (var changes = region.TakeChanges(); changes.Granted.Count > 0; changes = region.TakeChanges())
            {
                foreach (var lease in changes.Granted)
                {
                    var (at, length) = waiting[lease.Function].Dequeue();
                    waits[lease.Function].Add((now - at).TotalSeconds);
                    ends.Enqueue(lease, now + length);
                    runs.Add((now, now + length, lease.MilliCards));
                }

                foreach (var kind in kinds)
                {
                    State(kind);
                }
            }
        }
    }

    /// <summary>A report of a machine with cards and more than enough of the rest.</summary>
    public static NodeReport Machine(string name, int cards) => new()
    {
        Node = name,
        BootId = "b",
        CpuMilli = 1_000_000,
        MemoryMiB = 10_000_000,
        DiskMiB = 10_000_000,
        Cards = [.. Enumerable.Range(0, cards).Select(i => new CardReport { Uuid = $"{name}-{i}", Type = "t4", MemoryMiB = CardMiB, Simulated = true })],
        Adopted = true,
    };

    private static TaskKind Pick(IReadOnlyList<TaskKind> kinds, Random random)
    {
        var at = random.NextDouble() * kinds.Sum(k => k.Weight);
        foreach (var kind in kinds)
        {
            at -= kind.Weight;
            if (at < 0)
            {
                return kind;
            }
        }

        return kinds[^1];
    }
}
