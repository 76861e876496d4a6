using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Containers;

/// <summary>The node's own last word about its cards: whatever the region says, no card is given out beyond its memory or to two accounts at once. No I/O.</summary>
internal static class CardShares
{
    /// <summary>Why a lease cannot be launched now, or null if it can.</summary>
    public static string? Refuse(Lease lease, IReadOnlyList<CardReport> cards, IEnumerable<Lease> holders)
    {
        var others = holders.Where(holder => holder.InstanceId != lease.InstanceId).ToList();
        var held = others
            .SelectMany(holder => holder.Cards)
            .GroupBy(share => share.Uuid, StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.Sum(share => (long)share.MemoryMiB), StringComparer.Ordinal);
        foreach (var share in lease.Cards.GroupBy(share => share.Uuid, StringComparer.Ordinal))
        {
            if (cards.FirstOrDefault(card => card.Uuid == share.Key) is not { } card)
            {
                return $"card {share.Key} is not on this node";
            }

            if (card.State is not (CardState.Ready or CardState.Draining))
            {
                return $"card {card.Uuid} is {card.State}: {card.Detail}";
            }

            // An order of a lease long over may have left somebody there whom the region no longer counts.
            if (others.Exists(holder => holder.Account != lease.Account && holder.Cards.Any(part => part.Uuid == share.Key)))
            {
                return $"card {card.Uuid} still has an instance of another account";
            }

            var wanted = share.Sum(part => (long)part.MemoryMiB);
            var taken = held.GetValueOrDefault(share.Key);
            if (wanted + taken > card.MemoryMiB)
            {
                return $"card {card.Uuid} has {card.MemoryMiB} MiB, of which {taken} are taken and {wanted} are wanted";
            }
        }

        return null;
    }
}
