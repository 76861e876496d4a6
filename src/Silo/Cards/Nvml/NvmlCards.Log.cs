namespace GpuTasks.Cards.Nvml;

internal sealed partial class NvmlCards
{
    [LoggerMessage(301, LogLevel.Information, "Cards are read from NVIDIA driver {Driver}, CUDA {Cuda}.")]
    private static partial void LogDriver(ILogger logger, string driver, string cuda);

    [LoggerMessage(302, LogLevel.Warning, "No cards can be read: {Fault}")]
    private static partial void LogAway(ILogger logger, string fault);

    [LoggerMessage(303, LogLevel.Error, "Reading the cards failed and is tried again.")]
    private static partial void LogSampleFailed(ILogger logger, Exception e);

    [LoggerMessage(304, LogLevel.Error, "The driver hangs in {Function} of card {Card}; the card is suspect, the others are read on.")]
    private static partial void LogHung(ILogger logger, int card, string function);

    [LoggerMessage(305, LogLevel.Warning, "The driver has returned from the call of card {Card} that hung.")]
    private static partial void LogHungReturned(ILogger logger, int card);

    [LoggerMessage(306, LogLevel.Error, "The driver hangs in {Function}; all cards are suspect until it returns.")]
    private static partial void LogStuck(ILogger logger, string function);

    [LoggerMessage(307, LogLevel.Error, "The driver no longer tells of faults: {Code}. All cards are suspect until it is opened anew.")]
    private static partial void LogEventsFailed(ILogger logger, NvmlReturn code);

    [LoggerMessage(308, LogLevel.Warning, "Xid {Xid} on card {Card}: {Meaning}.")]
    private static partial void LogXid(ILogger logger, string card, ulong xid, string meaning);

    [LoggerMessage(309, LogLevel.Error, "Card {Card}: {Message}")]
    private static partial void LogFault(ILogger logger, string card, string message);
}
