namespace GpuTasks.Quota.Placement;

/// <summary>
/// Best fit in lexical order: a part of a card goes to the tightest card, whole cards to the node that keeps the fewest,
/// a request without cards to where the least of the cards is free; then where the fewest processors stay free.
/// </summary>
public sealed class BestFit : IPlacement
{
    /// <inheritdoc />
    public void Arrived(in Shape shape)
    {
        // What arrived before does not matter here.
    }

    /// <inheritdoc />
    public Spot? Choose(IReadOnlyList<NodeRoom> rooms, in Shape shape, string account)
    {
        (int, int, long) best = default;
        Spot? chosen = null;
        foreach (var room in rooms)
        {
            if (!room.Open || !room.Holds(shape))
            {
                continue;
            }

            if (shape.GpuMiB == 0)
            {
                Consider((room.FreeMilliCards(), 0, room.CpuMilli), room, -1, 0, 0);
                continue;
            }

            for (var i = 0; i < room.Cards.Length; i++)
            {
                var card = room.Cards[i];
                var (count, mib) = shape.CutOn(card.SizeMiB);
                if (count == 1 && card.Takes(shape.Types, mib, account))
                {
                    Consider((card.FreeMiB - mib, room.CountEmpty(), room.CpuMilli), room, i, 1, mib);
                }
                else if (count > 1 && card.Empty && room.CountEmptyLike(i, shape.Types) >= count)
                {
                    Consider((0, room.CountEmpty(), room.CpuMilli), room, i, count, mib);
                }
            }
        }

        return chosen;

        void Consider((int, int, long) score, NodeRoom room, int position, int count, int mib)
        {
            // Strictly less: of equals the first stays, so a replay gives the same places.
            if (chosen is null || score.CompareTo(best) < 0)
            {
                best = score;
                chosen = new Spot(room, count switch { 0 => [], 1 => [position], _ => room.TakeEmptyLike(position, count) }, mib);
            }
        }
    }
}
