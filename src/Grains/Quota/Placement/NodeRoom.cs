using GpuTasks.Nodes;

namespace GpuTasks.Quota.Placement;

/// <summary>What placement looks for. Card types are bits, so that a request may name several.</summary>
/// <param name="Types">Card types that will do; 0 for a request without cards.</param>
/// <param name="GpuMiB">GPU memory: a part of one card, one card, or a multiple of one card's; 0 for none.</param>
/// <param name="CpuMilli">Processors, in thousandths.</param>
/// <param name="MemoryMiB">Memory.</param>
/// <param name="DiskMiB">Disk.</param>
public readonly record struct Shape(ulong Types, int GpuMiB, int CpuMilli, int MemoryMiB, int DiskMiB)
{
    /// <summary>How the request is cut on cards of one size: so many cards with so much memory each; 0 cards if it cannot be.</summary>
    public (int Cards, int MiB) CutOn(int cardMiB) =>
        GpuMiB <= cardMiB ? (1, GpuMiB)
        : cardMiB > 0 && GpuMiB % cardMiB == 0 ? (GpuMiB / cardMiB, cardMiB)
        : (0, 0);
}

/// <summary>What is free on one card.</summary>
/// <param name="Uuid">Card identity.</param>
/// <param name="Type">Bit of the card's type; 0 for one that takes nothing new.</param>
/// <param name="SizeMiB">Memory that leases share.</param>
/// <param name="FreeMiB">Memory no lease holds; 0 for a card that takes nothing new.</param>
/// <param name="Owner">Account whose leases are on it, or null.</param>
public readonly record struct CardRoom(string Uuid, ulong Type, int SizeMiB, int FreeMiB, string? Owner)
{
    /// <summary>Nothing is on the card and something may be.</summary>
    public bool Empty => FreeMiB == SizeMiB && FreeMiB > 0;

    /// <summary>Whether this account may put so much on it.</summary>
    public bool Takes(ulong types, int memoryMiB, string account) =>
        (Type & types) != 0 && FreeMiB >= memoryMiB && (Owner is null || Owner == account);
}

/// <summary>A place found: a node and the cards there, each with as much memory.</summary>
/// <param name="Node">Node.</param>
/// <param name="Cards">Positions among the node's cards; empty for a request without cards.</param>
/// <param name="MiB">GPU memory on each.</param>
public sealed record Spot(NodeRoom Node, IReadOnlyList<int> Cards, int MiB);

/// <summary>What is free on one node: made anew from its leases after each change, then only read.</summary>
public sealed record NodeRoom
{
    /// <summary>Node name.</summary>
    public required string Node { get; init; }

    /// <summary>Whether it gets anything new.</summary>
    public bool Open { get; init; }

    /// <summary>Free processors, in thousandths.</summary>
    public long CpuMilli { get; init; }

    /// <summary>Free memory.</summary>
    public long MemoryMiB { get; init; }

    /// <summary>Free disk.</summary>
    public long DiskMiB { get; init; }

    /// <summary>Cards the node reports.</summary>
    public CardRoom[] Cards
    {
        get;
        init
        {
            field = value;
            var (most, empty) = (0, 0L);
            foreach (ref readonly var card in value.AsSpan())
            {
                most = Math.Max(most, card.FreeMiB);
                empty += card.Empty ? card.FreeMiB : 0;
            }

            MostMiB = Math.Max(most, empty);
        }
    } = [];

    /// <summary>No request for more GPU memory than this fits, so most are ruled out at once.</summary>
    public long MostMiB { get; private init; }

    /// <summary>Reads what is free from a table.</summary>
    /// <param name="table">Leases of the node.</param>
    /// <param name="open">Whether it gets anything new.</param>
    /// <param name="bitOf">Bit of a card type.</param>
    public static NodeRoom Of(LeaseTable table, bool open, Func<string, ulong> bitOf)
    {
        var present = 0;
        foreach (var card in table.Cards)
        {
            present += card.Present ? 1 : 0;
        }

        var cards = new CardRoom[present];
        var at = 0;
        foreach (var record in table.Cards)
        {
            if (record.Present)
            {
                var card = record.Report;
                var serves = card.State == CardState.Ready && record.Drained is null;
                cards[at++] = new CardRoom(card.Uuid, serves ? bitOf(card.Type) : 0, card.MemoryMiB, serves ? card.MemoryMiB : 0, null);
            }
        }

        var (cpu, memory, disk) = ((long)table.CpuMilli, (long)table.MemoryMiB, (long)table.DiskMiB);
        foreach (var lease in table.Leases)
        {
            cpu -= lease.CpuMilli;
            memory -= lease.MemoryMiB;
            disk -= lease.DiskMiB;
            foreach (var share in lease.Cards)
            {
                for (var i = 0; i < cards.Length; i++)
                {
                    if (cards[i].Uuid == share.Uuid)
                    {
                        cards[i] = cards[i] with { FreeMiB = Math.Max(0, cards[i].FreeMiB - share.MemoryMiB), Owner = lease.Account };
                    }
                }
            }
        }

        return new NodeRoom { Node = table.Node, Open = open, CpuMilli = cpu, MemoryMiB = memory, DiskMiB = disk, Cards = cards };
    }

    /// <summary>Whether processors, memory and disk suffice.</summary>
    public bool Holds(in Shape shape) => CpuMilli >= shape.CpuMilli && MemoryMiB >= shape.MemoryMiB && DiskMiB >= shape.DiskMiB;

    /// <summary>Whether the request fits now.</summary>
    public bool Fits(in Shape shape, string account) => Open && Holds(shape) && (shape.GpuMiB == 0 || FitsCards(shape, account));

    /// <summary>Whether enough cards are free for the request, whatever the rest of the node has.</summary>
    public bool FitsCards(in Shape shape, string account)
    {
        if (shape.GpuMiB > MostMiB)
        {
            return false;
        }

        for (var i = 0; i < Cards.Length; i++)
        {
            var (count, mib) = shape.CutOn(Cards[i].SizeMiB);
            if (count == 1 && Cards[i].Takes(shape.Types, mib, account))
            {
                return true;
            }

            if (count > 1 && Cards[i].Empty && CountEmptyLike(i, shape.Types) >= count)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The number of empty cards of the type and size of one card, itself among them.</summary>
    public int CountEmptyLike(int position, ulong types)
    {
        var (_, type, size, _, _) = Cards[position];
        var count = 0;
        if ((type & types) != 0)
        {
            foreach (ref readonly var card in Cards.AsSpan())
            {
                count += card.Type == type && card.SizeMiB == size && card.Empty ? 1 : 0;
            }
        }

        return count;
    }

    /// <summary>The first empty cards of the type and size of one card.</summary>
    public int[] TakeEmptyLike(int position, int count)
    {
        var found = new int[count];
        for (int i = 0, n = 0; i < Cards.Length && n < count; i++)
        {
            if (Cards[i].Type == Cards[position].Type && Cards[i].SizeMiB == Cards[position].SizeMiB && Cards[i].Empty)
            {
                found[n++] = i;
            }
        }

        return found;
    }

    /// <summary>Position of a card, or -1.</summary>
    public int PositionOf(string uuid)
    {
        for (var i = 0; i < Cards.Length; i++)
        {
            if (Cards[i].Uuid == uuid)
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>Position of the first card of the type and size of one card.</summary>
    public int FirstLike(int position)
    {
        var first = 0;
        while (Cards[first].Type != Cards[position].Type || Cards[first].SizeMiB != Cards[position].SizeMiB)
        {
            first++;
        }

        return first;
    }

    /// <summary>The number of cards with nothing on them.</summary>
    public int CountEmpty()
    {
        var count = 0;
        foreach (ref readonly var card in Cards.AsSpan())
        {
            count += card.Empty ? 1 : 0;
        }

        return count;
    }

    /// <summary>Free shares of its cards, in thousandths of a card.</summary>
    public int FreeMilliCards()
    {
        var sum = 0;
        foreach (ref readonly var card in Cards.AsSpan())
        {
            sum += card.FreeMiB == 0 ? 0 : (int)(1_000L * card.FreeMiB / card.SizeMiB);
        }

        return sum;
    }

    /// <summary>What is free once the request has its place.</summary>
    public NodeRoom After(in Shape shape, Spot spot, string account)
    {
        var cards = Cards;
        if (spot.Cards.Count > 0)
        {
            cards = [.. Cards];
            foreach (var i in spot.Cards)
            {
                cards[i] = cards[i] with { FreeMiB = cards[i].FreeMiB - spot.MiB, Owner = account };
            }
        }

        return this with { CpuMilli = CpuMilli - shape.CpuMilli, MemoryMiB = MemoryMiB - shape.MemoryMiB, DiskMiB = DiskMiB - shape.DiskMiB, Cards = cards };
    }
}
