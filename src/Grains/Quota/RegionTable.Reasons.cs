using GpuTasks.Nodes;
using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>Why a demand still waits. What is said names no other account.</summary>
public sealed partial class RegionTable
{
    /// <summary>The first thing that stands in the way, in words and with the amount short.</summary>
    private (WaitReason Reason, string Detail, CapacityShort Missing) ReasonOf(Demand demand, DateTimeOffset now)
    {
        var (shape, account) = (demand.Shape, demand.Account);
        if (MilliCards(shape) is > 0 and var share && account.Held + share + ReservedForOthers(demand) > account.Limit)
        {
            var reserved = ReservedForOthers(demand);
            var missing = account.Held + share + reserved - account.Limit;
            return (
                WaitReason.Quota,
                $"The account holds {account.Held} of {account.Limit} milli-cards{(reserved > 0 ? $", {reserved} are reserved for its other functions" : "")}; one more instance needs {share}, {missing} too many.",
                new CapacityShort(MilliCards: missing));
        }

        var serving = nodes.Where(n => Serves(n, now)).ToList();
        var open = serving.Where(n => n.Table.Drained is null).ToList();
        if (open.Count == 0)
        {
            return serving.Count > 0 ? (WaitReason.Drained, $"{(serving.Count == 1 ? "The only reachable node is" : $"All {serving.Count} reachable nodes are")} being drained.", CapacityShort.Nothing)
                : (WaitReason.NoNode, nodes.Count == 0 ? "No node has joined the region." : $"None of {nodes.Count} nodes is reachable.", CapacityShort.Nothing);
        }

        if (shape.GpuMiB > 0)
        {
            var able = open.Where(n => n.Whole.FitsCards(shape, "")).ToList();
            if (able.Count == 0)
            {
                return ReasonWithoutCard(demand, serving, open);
            }

            if (!able.Any(n => n.Room.FitsCards(shape, account.Name)))
            {
                return NoFreeCard(able, shape, demand.Stated.Shape.GpuType!, account.Name);
            }
        }

        var fitting = open.Where(n => n.Room.Fits(shape, account.Name)).ToList();
        if (fitting.Count == 0)
        {
            var nearest = open.Where(n => shape.GpuMiB == 0 || n.Room.FitsCards(shape, account.Name))
                .Select(n => n.Room).MinBy(r => Part(shape.CpuMilli, r.CpuMilli) + Part(shape.MemoryMiB, r.MemoryMiB) + Part(shape.DiskMiB, r.DiskMiB))!;
            var missing = new CapacityShort(
                CpuMilli: Math.Max(0, shape.CpuMilli - nearest.CpuMilli),
                MemoryMiB: Math.Max(0, shape.MemoryMiB - nearest.MemoryMiB),
                DiskMiB: Math.Max(0, shape.DiskMiB - nearest.DiskMiB));
            return (WaitReason.NoRoomOnNode, $"The nearest node is short of {missing.CpuMilli} milli-processors, {missing.MemoryMiB} MiB memory and {missing.DiskMiB} MiB disk.", missing);
        }

        var detail = fitting.All(n => n.Table.Node == demand.Stated.AvoidNode)
            ? (WaitReason.NoFreeCard, $"Only node '{demand.Stated.AvoidNode}' has room, and an instance just failed there.")
            : !fitting.Exists(n => RoomFor(demand, n, now).Fits(shape, account.Name))
            ? (WaitReason.KeptForOther, "The cards with room are kept for others that wait longer and need whole cards.")
            : (WaitReason.Behind, "Others are ahead.");
        return (detail.Item1, detail.Item2, CapacityShort.Nothing);

        static double Part(long wanted, long free) => wanted <= free ? 0 : (double)(wanted - free) / wanted;
    }

    /// <summary>No node that takes anything new could serve, even empty: is it that there is none, or that it may not?</summary>
    private (WaitReason Reason, string Detail, CapacityShort Missing) ReasonWithoutCard(Demand demand, List<NodeEntry> serving, List<NodeEntry> open)
    {
        var (shape, type) = (demand.Shape, demand.Stated.Shape.GpuType!);
        if (serving.Exists(n => Imagined(n, healthy: false).FitsCards(shape, "")))
        {
            return (WaitReason.Drained, $"What could give {shape.GpuMiB} MiB on cards of type {type} is being drained.", CapacityShort.Nothing);
        }

        if (serving.Exists(n => Imagined(n, healthy: true).FitsCards(shape, "")))
        {
            var states = serving.SelectMany(n => n.Table.Cards).Where(c => c.Present && c.Report.Type == type && c.Report.State != CardState.Ready)
                .GroupBy(c => c.Report.State).OrderBy(g => g.Key).Select(g => $"{g.Count()} {g.Key}");
            return (WaitReason.CardsUnfit, $"Too few cards of type {type} are fit for new work: {string.Join(", ", states)}.", CapacityShort.Nothing);
        }

        var largest = open.SelectMany(n => n.Whole.Cards).Where(c => (c.Type & shape.Types) != 0).Select(c => c.SizeMiB).DefaultIfEmpty().Max();
        return (
            WaitReason.NoCardOfType,
            largest == 0
                ? $"No reachable node has a ready card of type {type}."
                : $"No reachable node can give {shape.GpuMiB} MiB on ready cards of type {type}; the largest has {largest} MiB, and more than that goes in whole cards of one node.",
            largest == 0 ? new CapacityShort(Cards: 1) : new CapacityShort(GpuMiB: Math.Max(0, shape.GpuMiB - largest)));
    }

    /// <summary>The node as it would be empty, not drained and, if asked for, with every card well.</summary>
    private NodeRoom Imagined(NodeEntry node, bool healthy) => NodeRoom.Of(
        node.Table with
        {
            Leases = [],
            Cards = [.. node.Table.Cards.Select(c => c with { Drained = null, Report = healthy ? c.Report with { State = CardState.Ready } : c.Report })],
        },
        open: true,
        BitOf);

    private static (WaitReason Reason, string Detail, CapacityShort Missing) NoFreeCard(List<NodeEntry> able, Shape shape, string type, string account)
    {
        var cards = able.SelectMany(n => n.Room.Cards).Where(c => c.Type != 0 && (c.Type & shape.Types) != 0).ToList();
        var size = cards.Select(c => c.SizeMiB).DefaultIfEmpty().Max();
        if (shape.GpuMiB > size && size > 0)
        {
            var (needed, most, empty) = (shape.GpuMiB / size, able.Max(n => n.Room.CountEmpty()), cards.Count(c => c.Empty));
            return (
                empty >= needed ? WaitReason.Fragmented : WaitReason.NoFreeCard,
                $"{needed} empty cards of type {type} are needed on one node; the node with the most has {most}, all nodes together {empty}.",
                new CapacityShort(Cards: Math.Max(0, needed - most)));
        }

        var allowed = cards.Where(c => c.Owner is null || c.Owner == account).Select(c => c.FreeMiB).ToList();
        var free = allowed.DefaultIfEmpty().Max();
        return (
            allowed.Sum() >= shape.GpuMiB ? WaitReason.Fragmented : WaitReason.NoFreeCard,
            $"{shape.GpuMiB} MiB are needed on one card of type {type}; the most free for this account is {free} MiB, {shape.GpuMiB - free} short.",
            new CapacityShort(GpuMiB: shape.GpuMiB - free));
    }
}
