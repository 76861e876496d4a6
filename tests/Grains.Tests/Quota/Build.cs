using GpuTasks.Nodes;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>Short ways to say what tests need.</summary>
internal static class Build
{
    public const string T4 = "fc.gpu.tesla.1";

    public static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public static CardReport Card(string uuid, int memoryMiB = 16_384, CardState state = CardState.Ready, string type = T4) =>
        new() { Uuid = uuid, Type = type, MemoryMiB = memoryMiB, Simulated = true, State = state };

    public static NodeReport Report(string node, int cards, string boot = "boot-1", params string[] instances) => new()
    {
        Node = node,
        BootId = boot,
        CpuMilli = 64_000,
        MemoryMiB = 262_144,
        DiskMiB = 1_000_000,
        Cards = [.. Enumerable.Range(0, cards).Select(i => Card($"{node}-gpu{i}"))],
        Instances = instances,
        Adopted = true,
    };

    public static CapacityDemand Demand(string account, string function, int gpuMiB, int more = 1, int cpuMilli = 1_000) => new()
    {
        Account = account,
        Function = function,
        Shape = new InstanceShape(gpuMiB > 0 ? T4 : null, gpuMiB, cpuMilli, 1_024, 512),
        MoreInstances = more,
        OldestWaitingSince = Start,
        RunLimit = TimeSpan.FromMinutes(10),
    };

    public static RegionTable Region(params NodeReport[] reports)
    {
        var next = 0;
        var region = new RegionTable(new RegionRules(), new BestFit(), _ => $"i-{++next}", Start);
        foreach (var report in reports)
        {
            region.Join(report, Start);
        }

        region.TakeChanges();
        return region;
    }

    public static NodeDirective Join(this RegionTable region, NodeReport report, DateTimeOffset now)
    {
        if (!region.Knows(report.Node))
        {
            region.Load(new LeaseTable { Node = report.Node });
        }

        return region.Report(report, now);
    }

    public static Lease Wanted(string instance, string account, params (string Uuid, int MiB)[] cards) => new()
    {
        InstanceId = instance,
        Account = account,
        Function = "f",
        Node = "n",
        Cards = [.. cards.Select(c => new CardShare(c.Uuid, c.MiB, LeaseTable.MilliCards(c.MiB, 16_384), 0))],
        CpuMilli = 1_000,
        MemoryMiB = 1_024,
        DiskMiB = 512,
        GrantedAt = Start,
    };
}
