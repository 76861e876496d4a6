using GpuTasks.Cards.Nvml;
using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>A card's health as events and samples have shaped it. No clock, no I/O: times come with what happened.</summary>
internal sealed record CardHealth
{
    /// <summary>Clocked down for this long, a card takes no new work.</summary>
    public static readonly TimeSpan ThrottlePatience = TimeSpan.FromMinutes(10);

    // Slowed down by the board, by heat (two kinds) or by the power supply; what is slow because idle or capped by choice is healthy.
    private const ulong ThrottleBits = 0x8 | 0x20 | 0x40 | 0x80;

    /// <summary>State that a fault number led to.</summary>
    public CardState Latched { get; init; } = CardState.Ready;

    /// <summary>That fault.</summary>
    public string LatchedDetail { get; init; } = "";

    /// <summary>When it was seen; only a later sample can lift it.</summary>
    public DateTimeOffset LatchedAt { get; init; }

    /// <summary>Since when it has been clocked down without a break.</summary>
    public DateTimeOffset? ThrottledSince { get; init; }

    /// <summary>Answer of the card as such at the last sample.</summary>
    public NvmlReturn Answer { get; init; }

    /// <summary>State in sum.</summary>
    public CardState State { get; init; } = CardState.Ready;

    /// <summary>Why, or what else an operator should know; may be empty.</summary>
    public string Detail { get; init; } = "";

    /// <summary>The worse of two states: what keeps more away wins.</summary>
    public static CardState Worse(CardState one, CardState other) => Rank(one) >= Rank(other) ? one : other;

    /// <summary>Takes in a fault number.</summary>
    public (CardHealth Next, FaultRule Rule) Apply(ulong xid, DateTimeOffset at)
    {
        var rule = XidPolicy.Of(xid);
        if (rule.Card == CardState.Ready || Rank(rule.Card) < Rank(Latched))
        {
            return (this, rule);
        }

        return (Latch(rule.Card, $"Xid {xid}: {rule.Meaning}", at), rule);
    }

    /// <summary>Keeps it from new work for a reason outside of the card's own samples.</summary>
    public CardHealth Latch(CardState state, string detail, DateTimeOffset at) => Rank(state) < Rank(Latched)
        ? this
        : this with { Latched = state, LatchedDetail = detail, LatchedAt = at, State = Worse(State, state), Detail = detail };

    /// <summary>Takes in a sample; says what it means for holders if it is news that the card is gone.</summary>
    public (CardHealth Next, HolderEffect Effect) Apply(CardSample sample)
    {
        var next = this with { Answer = sample.Health };
        if (sample.Health is NvmlReturn.GpuIsLost or NvmlReturn.ResetRequired)
        {
            var detail = NvmlReturns.CardFact(sample.Health);
            return (
                next with { Latched = CardState.Failed, LatchedDetail = detail, LatchedAt = sample.At, State = CardState.Failed, Detail = detail },
                Answer == sample.Health ? HolderEffect.None : HolderEffect.EndAll);
        }

        if (sample.Health != NvmlReturn.Success)
        {
            return (next with { State = Worse(Latched, CardState.Suspect), Detail = NvmlReturns.CardFact(sample.Health) }, HolderEffect.None);
        }

        // The driver knows best whether the card is well again; without its word only a restart of the agent lifts a fault.
        if (sample.RecoveryAction is not null && sample.At > LatchedAt)
        {
            next = next with { Latched = CardState.Ready, LatchedDetail = "" };
        }

        var (state, detail2) = (next.Latched, next.LatchedDetail);
        void Weigh(CardState other, string why)
        {
            if (Rank(other) > Rank(state) || detail2.Length == 0)
            {
                detail2 = why;
            }

            state = Worse(state, other);
        }

        if (sample.RecoveryAction is { } action and not 0)
        {
            var (wanted, why) = XidPolicy.OfRecoveryAction(action);
            Weigh(wanted, why);
        }

        if (sample.RemapFailed)
        {
            Weigh(CardState.Failed, "a worn memory row could not be replaced; the card must be exchanged");
        }

        var throttled = sample.ThrottleReasons is { } reasons && (reasons & ThrottleBits) != 0;
        next = next with { ThrottledSince = throttled ? ThrottledSince ?? sample.At : null };
        if (throttled)
        {
            Weigh(
                sample.At - next.ThrottledSince > ThrottlePatience ? CardState.Draining : CardState.Ready,
                $"clocked down for heat or power (reasons 0x{sample.ThrottleReasons:x}) since {next.ThrottledSince:u}");
        }

        if (sample.RemapPending)
        {
            Weigh(CardState.Ready, "a worn memory row is replaced at the next reset");
        }

        return (next with { State = state, Detail = detail2 }, HolderEffect.None);
    }

    private static int Rank(CardState state) => state switch
    {
        CardState.Ready => 0,
        CardState.Draining => 1,
        CardState.Foreign => 2,
        CardState.Dirty => 3,
        CardState.Suspect => 4,
        _ => 5,
    };
}
