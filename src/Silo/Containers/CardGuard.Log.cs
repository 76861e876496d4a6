namespace GpuTasks.Containers;

internal sealed partial class CardGuard
{
    [LoggerMessage(401, LogLevel.Warning, "Card {Card} is not clean after {Instance}: {Detail}. It is looked at again.")]
    private static partial void LogDirty(ILogger logger, string card, string instance, string detail);

    [LoggerMessage(402, LogLevel.Critical, "Card {Card} has not become clean after {Instance} for {Seconds} s: {Detail}. Somebody has to look.")]
    private static partial void LogAlarm(ILogger logger, string card, string instance, int seconds, string detail);

    [LoggerMessage(403, LogLevel.Warning, "Card {Card} takes nothing new: {Detail}.")]
    private static partial void LogForeign(ILogger logger, string card, string detail);

    [LoggerMessage(404, LogLevel.Information, "Card {Card} has nobody from outside of the platform on it any more.")]
    private static partial void LogForeignGone(ILogger logger, string card);

    [LoggerMessage(405, LogLevel.Warning, "Instance {Instance} is ended: on card {Card} it used {UsedMiB} MiB of its {SliceMiB} MiB.")]
    private static partial void LogOver(ILogger logger, string instance, string card, int usedMiB, int sliceMiB);

    [LoggerMessage(406, LogLevel.Warning, "Instance {Instance} is ended, and its runs go elsewhere: {Message}")]
    private static partial void LogEnded(ILogger logger, string instance, string message);

    [LoggerMessage(407, LogLevel.Warning, "Card {Card} was left by {Instance} while broken: {Detail}.")]
    private static partial void LogLeftBroken(ILogger logger, string card, string instance, string detail);
}
