using Microsoft.Extensions.Logging;

namespace GpuTasks.Quota;

public sealed partial class RegionQuotaGrain
{
    [LoggerMessage(Level = LogLevel.Information, Message = "Region {Region} taken over in term {Term}")]
    private partial void LogTakenOver(string region, long term);

    [LoggerMessage(Level = LogLevel.Information, Message = "Lease {Instance} granted on {Node} to {Account}/{Function}: {MilliCards} milli-cards, node epoch {Epoch}")]
    private partial void LogGranted(string instance, string node, string account, string function, int milliCards, long epoch);

    [LoggerMessage(Level = LogLevel.Information, Message = "Lease {Instance} ended on {Node} for {Account}/{Function}")]
    private partial void LogEnded(string instance, string node, string account, string function);

    [LoggerMessage(Level = LogLevel.Information, Message = "Lease {Instance} on {Node} of {Account}/{Function} should end after its present runs: others are entitled to it")]
    private partial void LogAskedToYield(string instance, string node, string account, string function);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A write of the region failed, or another copy has it; it is read again")]
    private partial void LogWriteFailed(Exception failure);
}
