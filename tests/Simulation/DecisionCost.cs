using System.Diagnostics;
using GpuTasks.Quota;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Simulation;

/// <summary>What a decision costs when everything is full and a million tasks wait.</summary>
/// <param name="FillSeconds">Time to grant all cards.</param>
/// <param name="Leases">Leases that fill them.</param>
/// <param name="EndsPerSecond">Lease ends a second, each with its refill.</param>
/// <param name="P50">Median of one end, in microseconds.</param>
/// <param name="P99">99th percentile, in microseconds.</param>
/// <param name="Longest">Longest, in microseconds.</param>
/// <param name="Regrants">Leases granted by the ends.</param>
/// <param name="Allocated">Share of the cards held at the end.</param>
/// <param name="EndsPerCpuSecond">Lease ends for a second of processor time, collections included: what neighbours on the machine do not change.</param>
public sealed record DecisionCost(double FillSeconds, int Leases, double EndsPerSecond, double P50, double P99, double Longest, int Regrants, double Allocated, double EndsPerCpuSecond)
{
    /// <summary>Measures with 8 cards a node and 500 tasks waiting in each function.</summary>
    public static DecisionCost Measure(int nodes = 1_250, int functions = 2_000, int accounts = 200, int ends = 20_000, int seed = 1)
    {
        var random = new Random(seed);
        var now = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
        var number = 0;
        var rules = new RegionRules { DefaultQuotaMilliCards = 1_000_000, NodeSilence = TimeSpan.FromDays(9), DemandLapse = TimeSpan.FromDays(9), LaunchGrace = TimeSpan.FromDays(9) };
        var region = new RegionTable(rules, new FragmentationDescent(new ShapeMix()), _ => $"i-{++number}", now);
        int[] sizes = [2_048, 4_096, 6_144, 8_192, 12_288, 16_384, 16_384, 16_384, 32_768, 131_072];
        var demands = Enumerable.Range(0, functions).Select(f => new CapacityDemand
        {
            Account = $"a{f % accounts:d4}",
            Function = $"f{f:d5}",
            Shape = new InstanceShape("t4", sizes[random.Next(sizes.Length)], 1_000 * random.Next(1, 9), 1_024 * random.Next(1, 33), 512),
            MoreInstances = 500,
            OldestWaitingSince = now.AddSeconds(-random.Next(3_600)),
            Priority = random.Next(10),
            RunLimit = TimeSpan.FromMinutes(random.Next(1, 120)),
        }).ToList();
        foreach (var demand in demands)
        {
            region.State(demand, now);
        }

        region.TakeChanges();
        for (var n = 0; n < nodes; n++)
        {
            region.Load(new LeaseTable { Node = $"n{n:d5}" });
        }

        var watch = Stopwatch.StartNew();
        for (var n = 0; n < nodes; n++)
        {
            region.Report(QueueRun.Machine($"n{n:d5}", 8) with { CpuMilli = 128_000, MemoryMiB = 1_048_576 }, now);
        }

        var fill = watch.Elapsed.TotalSeconds;
        var leases = region.TakeChanges().Granted.ToList();
        var filled = leases.Count;
        var times = new List<double>(ends);
        var regrants = 0;
        var processor = Environment.CpuUsage.TotalTime;
        for (var i = 0; i < ends; i++)
        {
            now += TimeSpan.FromMicroseconds(200); // What is done once a second must be paid for at 5,000 ends a second.
            var at = random.Next(leases.Count);
            var lease = leases[at];
            leases[at] = leases[^1];
            leases.RemoveAt(leases.Count - 1);
            var began = Stopwatch.GetTimestamp();
            region.Release(lease.Node, lease.InstanceId, now);
            var changes = region.TakeChanges();
            times.Add(Stopwatch.GetElapsedTime(began).TotalMicroseconds);
            leases.AddRange(changes.Granted);
            regrants += changes.Granted.Count;
        }

        processor = Environment.CpuUsage.TotalTime - processor;
        var seconds = times.Sum() / 1e6;
        times.Sort();
        return new DecisionCost(fill, filled, ends / seconds, times[ends / 2], times[ends * 99 / 100], times[^1], regrants, leases.Sum(l => l.MilliCards) / (nodes * 8_000.0), ends / processor.TotalSeconds);
    }
}
