using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>What a card's fault means for whoever holds it.</summary>
internal enum HolderEffect
{
    /// <summary>Nothing: it goes on, or its own error ends it.</summary>
    None = 0,

    /// <summary>The program on the card did it. Its run fails by itself; many such from different holders speak against the card.</summary>
    OwnFault = 1,

    /// <summary>One holder was hit. Who has the card alone is ended and its runs go elsewhere; among several nobody knows which, and the one hit ends by itself.</summary>
    EndSoleHolder = 2,

    /// <summary>Whoever spans several cards is ended and its runs go elsewhere.</summary>
    EndGangs = 3,

    /// <summary>Every holder is ended and its runs go elsewhere.</summary>
    EndAll = 4,
}

/// <summary>What follows from one kind of fault.</summary>
/// <param name="Meaning">For people.</param>
/// <param name="Card">State of the card until the driver says otherwise; Ready for none.</param>
/// <param name="Holders">What it means for holders.</param>
/// <param name="DrainsNode">True if the machine has to be restarted, so that its other cards take nothing new.</param>
internal sealed record FaultRule(string Meaning, CardState Card, HolderEffect Holders, bool DrainsNode = false);

/// <summary>The driver's fault numbers (Xid) and recovery actions as a table. No I/O.</summary>
internal static class XidPolicy
{
    /// <summary>What a fault number leads to.</summary>
    public static FaultRule Of(ulong xid) => xid switch
    {
        13 => Own("a kernel of the program failed"),
        31 => Own("the program touched memory that is not its own"),
        43 => Own("the program's work stopped"),
        45 => Own("the program's work was ended before it was done"),
        68 => Own("the program's video work failed"),
        109 => Own("the program's context could not be switched"),
        63 => new("a worn memory row will be replaced at the next reset", CardState.Ready, HolderEffect.None),
        92 => new("many memory errors were corrected", CardState.Ready, HolderEffect.None),
        94 => new("a memory error that cannot be corrected, kept within one program", CardState.Draining, HolderEffect.EndSoleHolder),
        74 => new("a link between cards failed", CardState.Draining, HolderEffect.EndGangs),
        46 => Broken("the card stopped working"),
        48 => Broken("a memory error that cannot be corrected"),
        62 => Broken("the card's own controller halted"),
        69 => Broken("the card's graphics engine failed"),
        95 => Broken("a memory error that cannot be corrected and may have spread"),
        119 or 120 => Broken("the card's own processor does not answer"),
        140 => Broken("an unrecovered memory error"),
        64 => Broken("a worn memory row could not be replaced; the card must be exchanged"),
        79 => Broken("it has fallen off the bus; the machine must be restarted") with { DrainsNode = true },
        154 => new("the driver changed what it wants done with the card", CardState.Suspect, HolderEffect.None),
        // A number that nobody explained yet: running work may finish, new work had better not begin.
        _ => new("a fault that the platform has no rule for", CardState.Draining, HolderEffect.None),
    };

    /// <summary>The driver's own verdict; it outweighs the fault numbers.</summary>
    public static (CardState State, string Detail) OfRecoveryAction(uint action) => action switch
    {
        0 => (CardState.Ready, ""),
        1 => (CardState.Failed, "the driver asks for a reset of the card"),
        2 => (CardState.Failed, "the driver asks for a restart of the machine"),
        3 => (CardState.Draining, "the driver asks for an end of traffic between cards"),
        4 => (CardState.Draining, "the driver asks for a reset of the card once it is idle"),
        6 => (CardState.Failed, "the driver asks for a reset of the bus"),
        7 => (CardState.Failed, "the driver asks for a restart of the machine"),
        _ => (CardState.Draining, $"the driver asks for recovery action {action}, which the platform does not know"),
    };

    private static FaultRule Own(string meaning) => new(meaning, CardState.Ready, HolderEffect.OwnFault);

    private static FaultRule Broken(string meaning) => new(meaning, CardState.Failed, HolderEffect.EndAll);
}
