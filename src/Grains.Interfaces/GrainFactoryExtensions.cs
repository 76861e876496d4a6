namespace GpuTasks;

/// <summary>Grains by key.</summary>
public static class GrainFactoryExtensions
{
    /// <summary>
    /// As <c>GetGrain</c>, which finds out by reflection at each call what identifies the interface and its class: that costs
    /// some 10 µs. Here it is found out once.
    /// </summary>
    /// <typeparam name="T">Interface of the grain.</typeparam>
    /// <param name="factory">Where grains come from.</param>
    /// <param name="key">Key of the grain.</param>
    public static T Get<T>(this IGrainFactory factory, string key)
        where T : class, IGrainWithStringKey
    {
        ArgumentNullException.ThrowIfNull(factory);
        if (Known<T>.Names is { } names)
        {
            return (T)factory.GetGrain(GrainId.Create(names.Class, key), names.Interface);
        }

        var grain = factory.GetGrain<T>(key);
        if (grain is GrainReference reference)
        {
            Known<T>.Names = new Names(reference.GrainId.Type, reference.InterfaceType);
        }

        return grain;
    }

    private sealed record Names(GrainType Class, GrainInterfaceType Interface);

    private static class Known<T>
    {
        public static volatile Names? Names;
    }
}
