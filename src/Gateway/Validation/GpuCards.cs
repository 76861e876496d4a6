using GpuTasks.Functions;

namespace GpuTasks.Gateway.Validation;

/// <summary>What the contract says about card types (section 6). Types that it does not know are allowed too.</summary>
internal static class GpuCards
{
    private const int MemoryOfUnknownMiB = 16_384;

    private static readonly Dictionary<string, int> MemoryMiB = new(StringComparer.Ordinal)
    {
        ["fc.gpu.tesla.1"] = 16_384,
        ["fc.gpu.ampere.1"] = 24_576,
        ["fc.gpu.ada.1"] = 49_152,
        ["fc.gpu.ada.2"] = 24_576,
        ["fc.gpu.ada.3"] = 49_152,
        ["fc.gpu.hopper.1"] = 98_304,
        ["fc.gpu.xpu.1"] = 98_304,
    };

    /// <summary>Cards of one instance, at least 1: every other limit is multiplied by it.</summary>
    public static int CountFor(GpuSpec? gpu)
    {
        if (gpu is null)
        {
            return 1;
        }

        var oneCard = MemoryMiB.GetValueOrDefault(gpu.Type, MemoryOfUnknownMiB);
        return Math.Max(1, (gpu.MemoryMiB + oneCard - 1) / oneCard);
    }
}
