namespace GpuTasks.Containers;

/// <summary>How real cards get into a container.</summary>
/// <param name="CardUuids">Cards; empty for none.</param>
/// <param name="CdiDevices">Names under which the engine itself knows the devices; empty to ask the maker's hook by identity.</param>
/// <param name="Capabilities">What the hook opens beside the cards, with commas; the engine's own way ignores it.</param>
internal sealed record HandOver(IReadOnlyList<string> CardUuids, IReadOnlyList<string> CdiDevices, string Capabilities)
{
    private static readonly Version LeastApiWithDevices = new(1, 50);
    private static readonly string[] Known = ["compute", "utility", "video", "graphics", "display", "compat32"];

    /// <summary>No cards.</summary>
    public static HandOver Nothing { get; } = new([], [], "");

    /// <summary>
    /// What the container's <c>NVIDIA_VISIBLE_DEVICES</c> says. Images bring their own, which with some runtimes would open every card:
    /// <c>void</c> where no hook may act on it, else the lease's cards.
    /// </summary>
    public string VisibleDevices => CardUuids.Count == 0 || CdiDevices.Count > 0 ? "void" : string.Join(',', CardUuids);

    /// <summary>True if the engine can say which devices it knows.</summary>
    public static bool EngineLists(EngineInfo engine) => engine.ApiVersion >= LeastApiWithDevices;

    /// <summary>By the engine's own device list if it names every card, else through the maker's hook. No I/O.</summary>
    public static HandOver Choose(IReadOnlyList<string> cards, EngineInfo engine, string capabilities)
    {
        if (cards.Count == 0)
        {
            return Nothing;
        }

        var names = cards.Select(card => $"nvidia.com/gpu={card}").ToList();
        return EngineLists(engine) && names.All(engine.CdiDevices.Contains)
            ? new HandOver(cards, names, capabilities)
            : new HandOver(cards, [], capabilities);
    }

    /// <summary>True if a text lists capabilities that the hook knows.</summary>
    public static bool AreCapabilities(string text)
    {
        var names = text.Split(',');
        return names.All(Known.Contains) && names.Any(name => name is "compute" or "utility");
    }
}
