using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>A card failed in a way that matters to whoever holds it.</summary>
/// <param name="uuid">Card.</param>
/// <param name="effect">What it means for holders.</param>
/// <param name="message">For people.</param>
internal sealed class CardFaultEventArgs(string uuid, HolderEffect effect, string message) : EventArgs
{
    /// <summary>Card.</summary>
    public string Uuid { get; } = uuid;

    /// <summary>What it means for holders.</summary>
    public HolderEffect Effect { get; } = effect;

    /// <summary>For people.</summary>
    public string Message { get; } = message;
}

/// <summary>Where a node's cards come from: the driver, or configuration.</summary>
internal interface ICardSource
{
    /// <summary>Every card with its present state; never empty for a moment only because of a refresh.</summary>
    IReadOnlyList<CardReport> Cards { get; }

    /// <summary>What an operator should know about this node's cards and driver.</summary>
    IReadOnlyList<string> Facts => [];

    /// <summary>Raised after <see cref="Cards"/> changed in more than its measurements, so that the region hears of it at once.</summary>
    event EventHandler? Changed;

    /// <summary>Raised when a card fails; on a thread of the source.</summary>
    event EventHandler<CardFaultEventArgs>? Faulted
    {
        add { }
        remove { }
    }

    /// <summary>The last sample of a card, however old; null if there is none, as for simulated cards.</summary>
    CardSample? SampleOf(string uuid) => null;

    /// <summary>A sample of a card that was begun after this call; null if none comes in time.</summary>
    Task<CardSample?> SampleNowAsync(string uuid, CancellationToken cancellationToken) => Task.FromResult<CardSample?>(null);

    /// <summary>Keeps a card in a state for one reason, until the same reason is given with <see cref="CardState.Ready"/>.</summary>
    void Hold(string uuid, string reason, CardState state, string detail)
    {
    }
}
