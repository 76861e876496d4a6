using System.Runtime.InteropServices;

namespace GpuTasks.Quota.Placement;

/// <summary>
/// Puts a request where it strands the least. Stranded on a node is the free share of its cards that an arrival of the
/// learnt mix could not use now, and the free share for which its processors, memory or disk will not last if what
/// arrives goes on as on average; the place chosen is the one where both grow least. Empty cards count a little, so that
/// whole cards stay together for those who need several. The first part is the idea of Weng et al., "Beware of
/// Fragmentation", USENIX ATC 2023; the learnt mix, the second part and the empty cards are this project's.
/// </summary>
/// <param name="mix">The learnt mix.</param>
public sealed class FragmentationDescent(ShapeMix mix) : IPlacement
{
    /// <summary>What one empty card on a node weighs, in milli-cards of fragmentation.</summary>
    private const int EmptyCardWeight = 10;

    /// <summary>Scores kept at once; beyond it all are dropped and made anew.</summary>
    private const int MostScores = 500_000;

    private readonly BestFit untilLearnt = new();
    private readonly Dictionary<(Shape Shape, string Account), Dictionary<string, Score>> scores = [];
    private int version;
    private int scoreCount;

    /// <inheritdoc />
    public void Arrived(in Shape shape) => mix.Arrived(shape);

    /// <inheritdoc />
    public Spot? Choose(IReadOnlyList<NodeRoom> rooms, in Shape shape, string account)
    {
        if (shape.GpuMiB == 0 || mix.Weights.Count == 0)
        {
            return untilLearnt.Choose(rooms, shape, account);
        }

        if (rooms.Count == 1)
        {
            // One node gained room, as after most ends: no need to weigh it against others, nor to keep its score.
            return rooms[0].Fits(shape, account) ? SpotOf(BestOn(rooms[0], shape, account, weighAlways: false)) : null;
        }

        if (version != mix.Version || scoreCount > MostScores)
        {
            version = mix.Version;
            scores.Clear();
            scoreCount = 0;
        }

        if (!scores.TryGetValue((shape, account), out var known))
        {
            scores.Add((shape, account), known = []);
        }

        Score best = default;
        for (var i = 0; i < rooms.Count; i++)
        {
            var room = rooms[i];
            if (!room.Fits(shape, account))
            {
                continue;
            }

            // A room is made anew when anything on the node changes, so a score is good for as long as its room is.
            ref var score = ref CollectionsMarshal.GetValueRefOrAddDefault(known, room.Node, out var exists);
            scoreCount += exists ? 0 : 1;
            if (!ReferenceEquals(score.Room, room))
            {
                score = BestOn(room, shape, account, weighAlways: true);
            }

            if (score.Count > 0 && (best.Room is null || (score.Growth, room.CpuMilli).CompareTo((best.Growth, best.Room.CpuMilli)) < 0))
            {
                best = score;
            }
        }

        return best.Room is null ? null : SpotOf(best);
    }

    private static Spot SpotOf(Score score) =>
        new(score.Room, score.Count == 1 ? [score.Position] : score.Room.TakeEmptyLike(score.Position, score.Count), score.MiB);

    /// <summary>Milli-cards free on the node that an arrival of the mix could not use now, summed over the mix.</summary>
    public long Fragmentation(NodeRoom room)
    {
        Span<int> free = stackalloc int[room.Cards.Length];
        CopyFree(room, free);
        return Stranded(room, free, room.CpuMilli, room.MemoryMiB, room.DiskMiB);
    }

    private Score BestOn(NodeRoom room, in Shape shape, string account, bool weighAlways)
    {
        Span<int> free = stackalloc int[room.Cards.Length];
        CopyFree(room, free);
        var best = new Score(room, 0, 0, 0, 0);
        long? before = null;
        var weigh = weighAlways || CountWays(room, shape, account) > 1;
        for (var i = 0; i < free.Length; i++)
        {
            var card = room.Cards[i];
            var (count, mib) = shape.CutOn(card.SizeMiB);
            if (!IsWay(room, i, shape, account))
            {
                continue;
            }

            if (!weigh)
            {
                return new Score(room, 0, i, count, mib);
            }

            ReadOnlySpan<int> taken = count == 1 ? [i] : room.TakeEmptyLike(i, count);
            foreach (var t in taken)
            {
                free[t] -= mib;
            }

            before ??= Fragmentation(room);
            var milli = count * LeaseTable.MilliCards(mib, card.SizeMiB);
            var growth = Stranded(room, free, room.CpuMilli - shape.CpuMilli, room.MemoryMiB - shape.MemoryMiB, room.DiskMiB - shape.DiskMiB)
                - before.Value
                + (long)(mix.Total * (Unserved(room, card.Type, (long)count * mib, milli, shape) - Unserved(room, card.Type, 0, 0, default)))
                + (EmptyCardWeight * mix.Total * room.CountEmpty());
            foreach (var t in taken)
            {
                free[t] += mib;
            }

            if (best.Count == 0 || growth < best.Growth)
            {
                best = new Score(room, growth, i, count, mib);
            }
        }

        return best;
    }

    private static int CountWays(NodeRoom room, in Shape shape, string account)
    {
        var ways = 0;
        for (var i = 0; i < room.Cards.Length; i++)
        {
            ways += IsWay(room, i, shape, account) ? 1 : 0;
        }

        return ways;
    }

    /// <summary>Whether the request may take this card, alone or as the first of several, and no earlier card is like it.</summary>
    private static bool IsWay(NodeRoom room, int position, in Shape shape, string account)
    {
        var card = room.Cards[position];
        var (count, mib) = shape.CutOn(card.SizeMiB);
        var fits = count == 1 ? card.Takes(shape.Types, mib, account) : count > 1 && card.Empty && room.CountEmptyLike(position, shape.Types) >= count;
        return fits && !LikeEarlier(room.Cards, position);
    }

    /// <summary>A card like an earlier one of the node scores the same.</summary>
    private static bool LikeEarlier(CardRoom[] cards, int position)
    {
        for (var i = 0; i < position; i++)
        {
            if (cards[i] with { Uuid = cards[position].Uuid } == cards[position])
            {
                return true;
            }
        }

        return false;
    }

    private static void CopyFree(NodeRoom room, Span<int> free)
    {
        for (var i = 0; i < free.Length; i++)
        {
            free[i] = room.Cards[i].FreeMiB;
        }
    }

    private long Stranded(NodeRoom room, ReadOnlySpan<int> free, long cpu, long memory, long disk)
    {
        var cards = room.Cards;
        Span<int> milli = stackalloc int[cards.Length];
        var all = 0L;
        for (var i = 0; i < cards.Length; i++)
        {
            milli[i] = cards[i].SizeMiB == 0 ? 0 : (int)(1_000L * free[i] / cards[i].SizeMiB);
            all += milli[i];
        }

        var sum = 0L;
        foreach (var (shape, arrivals) in mix.Weights)
        {
            var usable = 0L;
            if (cpu >= shape.CpuMilli && memory >= shape.MemoryMiB && disk >= shape.DiskMiB)
            {
                var (size, count, mib, empty) = (-1, 0, 0, 0);
                for (var i = 0; i < cards.Length; i++)
                {
                    if ((cards[i].Type & shape.Types) == 0)
                    {
                        continue;
                    }

                    if (cards[i].SizeMiB != size)
                    {
                        size = cards[i].SizeMiB;
                        (count, mib) = shape.CutOn(size);
                        empty = 0;
                    }

                    if (count == 1 && free[i] >= mib)
                    {
                        usable += milli[i];
                    }
                    else if (count > 1 && free[i] == size && ++empty >= count)
                    {
                        // The cards that complete a set make all of the set usable.
                        usable += empty == count ? 1_000L * count : 1_000;
                    }
                }
            }

            sum += arrivals * (all - usable);
        }

        return sum;
    }

    /// <summary>Free milli-cards for which processors, memory or disk will not last, once a request has its place.</summary>
    private double Unserved(NodeRoom room, ulong type, long takenMiB, int takenMilli, in Shape shape)
    {
        var needs = mix.Beside(type);
        var free = -takenMiB;
        var milli = -takenMilli;
        foreach (ref readonly var card in room.Cards.AsSpan())
        {
            free += card.FreeMiB;
            milli += card.FreeMiB == 0 ? 0 : (int)(1_000L * card.FreeMiB / card.SizeMiB);
        }

        var served = Math.Min(
            Lasts(room.CpuMilli - shape.CpuMilli, needs.CpuMilli),
            Math.Min(Lasts(room.MemoryMiB - shape.MemoryMiB, needs.MemoryMiB), Lasts(room.DiskMiB - shape.DiskMiB, needs.DiskMiB)));
        return free <= 0 || served >= free ? 0 : milli * (1 - (served / free));

        static double Lasts(long left, double need) => need > 0 ? left / need : double.PositiveInfinity;
    }

    private readonly record struct Score(NodeRoom Room, long Growth, int Position, int Count, int MiB);
}
