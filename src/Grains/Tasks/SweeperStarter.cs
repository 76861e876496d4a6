using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Tasks;

/// <summary>Asks for the sweeper and the purger from every silo, again and again, so that they live wherever the cluster puts them.</summary>
/// <param name="grains">Way to the grains.</param>
/// <param name="logger">Log.</param>
public sealed partial class SweeperStarter(IGrainFactory grains, ILogger<SweeperStarter> logger) : BackgroundService
{
    /// <inheritdoc />
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var period = new PeriodicTimer(TimeSpan.FromSeconds(10));
        do
        {
            await AskAsync(SweeperGrain.Key, grains.GetGrain<ISweeperGrain>(SweeperGrain.Key).EnsureRunning(stoppingToken));
            await AskAsync(PurgerGrain.Key, grains.GetGrain<IPurgerGrain>(PurgerGrain.Key).EnsureRunning(stoppingToken));
        }
        while (await period.WaitForNextTickAsync(stoppingToken));
    }

    private async Task AskAsync(string name, Task asked)
    {
        try
        {
            await asked;
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            LogNotReached(exception, name);
        }
    }

    [LoggerMessage(LogLevel.Warning, "The {Name} could not be reached and will be asked again")]
    private partial void LogNotReached(Exception exception, string name);
}
