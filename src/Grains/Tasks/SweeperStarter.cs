using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Tasks;

/// <summary>Asks for the sweeper from every silo, again and again, so that it lives wherever the cluster puts it.</summary>
/// <param name="grains">Way to the grain.</param>
/// <param name="logger">Log.</param>
public sealed partial class SweeperStarter(IGrainFactory grains, ILogger<SweeperStarter> logger) : BackgroundService
{
    /// <inheritdoc />
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var period = new PeriodicTimer(TimeSpan.FromSeconds(10));
        do
        {
            try
            {
                await grains.GetGrain<ISweeperGrain>(SweeperGrain.Key).EnsureRunning(stoppingToken);
            }
            catch (Exception exception) when (exception is not OperationCanceledException)
            {
                LogNotReached(exception);
            }
        }
        while (await period.WaitForNextTickAsync(stoppingToken));
    }

    [LoggerMessage(LogLevel.Warning, "The sweeper could not be reached and will be asked again")]
    private partial void LogNotReached(Exception exception);
}
