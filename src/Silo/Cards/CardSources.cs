using GpuTasks.Cards.Nvml;
using GpuTasks.Nodes;
using Microsoft.Extensions.Options;

namespace GpuTasks.Cards;

/// <summary>Decides where a node's cards come from.</summary>
internal static class CardSources
{
    // The first report should name the cards; a driver that takes longer is reported as it comes.
    private static readonly TimeSpan FirstWait = TimeSpan.FromSeconds(5);

    /// <summary>Simulated cards if the configuration names any, else those of the driver; a machine without one has none and says so.</summary>
    public static ICardSource Choose(IServiceProvider services)
    {
        var options = services.GetRequiredService<IOptions<NodeOptions>>().Value;
        if (options.Cards.Length > 0)
        {
            return new SimulatedCards(options.Name, options.Cards);
        }

        var cards = new NvmlCards(SettingsOf(options), services.GetRequiredService<TimeProvider>(), services.GetRequiredService<ILogger<NvmlCards>>());
        cards.WaitForFirst(FirstWait);
        return cards;
    }

    private static NvmlSettings SettingsOf(NodeOptions options) => new()
    {
        LibraryPath = options.NvmlLibrary.Length > 0
            ? options.NvmlLibrary
            : Environment.GetEnvironmentVariable("NVML_LIBRARY") is { Length: > 0 } library ? library : NvmlLibrary.DefaultName,
        CardTypes = options.CardTypes,
        SamplePeriod = options.CardSamplePeriod,
        HangAfter = options.CardHangAfter,
    };
}
