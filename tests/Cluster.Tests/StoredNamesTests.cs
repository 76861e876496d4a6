using GpuTasks.Tasks;

namespace GpuTasks.Tests;

/// <summary>Names that are in stored rows or on the wire between silos of two releases.</summary>
public sealed class StoredNamesTests
{
    [Fact]
    public void Every_grain_class_has_a_type_name_of_its_own()
    {
        var grains = typeof(TaskGrain).Assembly.GetTypes().Where(type => typeof(Grain).IsAssignableFrom(type) && !type.IsAbstract).ToArray();
        Assert.NotEmpty(grains);
        Assert.All(grains, type => Assert.Contains(type.CustomAttributes, attribute => attribute.AttributeType == typeof(GrainTypeAttribute)));
    }

    [Fact]
    public void Every_message_and_interface_has_an_alias()
    {
        var types = typeof(ITaskGrain).Assembly.GetTypes().Where(type => type.IsPublic
            && (typeof(IGrain).IsAssignableFrom(type) || type.CustomAttributes.Any(attribute => attribute.AttributeType == typeof(GenerateSerializerAttribute))));
        Assert.All(types, type => Assert.Contains(type.CustomAttributes, attribute => attribute.AttributeType == typeof(AliasAttribute)));
    }
}
