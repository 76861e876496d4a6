namespace GpuTasks.Security;

/// <summary>
/// Marks text that is stored only encrypted and never shown: a property of type <see cref="string"/>, or a dictionary whose
/// values are such texts. In memory and between the cluster's own processes it is in the clear.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecretAttribute : Attribute;
