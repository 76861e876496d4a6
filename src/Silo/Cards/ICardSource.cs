using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>Where a node's cards come from: the driver, or configuration.</summary>
internal interface ICardSource
{
    /// <summary>Every card with its present state; never empty for a moment only because of a refresh.</summary>
    IReadOnlyList<CardReport> Cards { get; }

    /// <summary>Raised after <see cref="Cards"/> changed, so that the region hears of it at once.</summary>
    event EventHandler? Changed;
}
